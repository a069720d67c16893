"""The recipe's task: acknowledged before it runs, as Celery does by default."""

from celery import shared_task
from flask import current_app
from sqlalchemy import delete

from benchmarks.baseline.models import Document, Segment, db
from benchmarks.baseline.parsing import embedded_passages
from benchmarks.baseline.submitting import guard_key

BATCH_SEGMENTS = 16


@shared_task(name="baseline.index_document")
def index_document(document_id: int) -> None:
    """Index a document anew."""
    document = db.session.get(Document, document_id)
    if document is None:
        return
    try:
        _index(document)
    except Exception as error:  # noqa: BLE001 - as the recipe has it
        db.session.rollback()
        document.status, document.error = "error", str(error)
        db.session.commit()
    finally:
        current_app.extensions["redis"].delete(guard_key(document_id))


def _index(document: Document) -> None:
    document.status = "parsing"
    db.session.execute(delete(Segment).where(Segment.document_id == document.id))
    db.session.commit()
    passages = embedded_passages(document.name, document.content)
    document.status = "indexing"
    db.session.commit()
    for first in range(0, len(passages), BATCH_SEGMENTS):
        for position, one in enumerate(passages[first : first + BATCH_SEGMENTS], first):
            db.session.add(
                Segment(
                    document_id=document.id,
                    position=position,
                    content=one.passage.text,
                    content_hash=one.content_hash,
                    embedding=[] if one.vector is None else one.vector.tolist(),
                )
            )
        db.session.commit()
    document.status = "completed"
    db.session.commit()
