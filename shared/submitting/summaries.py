"""A document's summary among its segments: one a version, indexed like one made by hand."""

import hashlib
from uuid import UUID, uuid5

from celery import Celery
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shared.contract import CREATE_SEGMENT, UPDATE_SEGMENT
from shared.models import Document, DocumentSegment
from shared.models.segment_work import COMPLETED, WAITING
from shared.submitting.segment_announcing import announce_edits
from shared.submitting.segment_counters import Difference, add_to_counters
from shared.submitting.segments import write_edit


def summary_id(document_id: UUID, version: int) -> UUID:
    """The segment's id: the same in every attempt."""
    return uuid5(document_id, f"summary of version {version}")


def place_summary(
    session: Session, document: Document, text: str, *, celery: Celery | None = None
) -> UUID:
    """Make the summary of a document's active version, or give it another text.

    Args:
        session: the caller's transaction.
        document: locked, with an active version and none in the making.
        text: the summary.
        celery: publishes right after the commit; without it a worker's relay does.

    Returns:
        The segment's id; the dataset queue indexes it.
    """
    version = document.active_version or 0
    segment_id = summary_id(document.id, version)
    segment = session.get(DocumentSegment, segment_id, populate_existing=True)
    if segment is not None and (segment.content, segment.status) == (text, COMPLETED):
        return segment_id
    if segment is None:
        segment = DocumentSegment(
            id=segment_id,
            tenant_id=document.tenant_id,
            dataset_id=document.dataset_id,
            document_id=document.id,
            version=version,
            position=_next_position(session, document.id, version),
            content=text,
            word_count=0,
            tokens=0,
            index_node_hash=hashlib.sha256(text.encode()).hexdigest(),
            is_summary=True,
            status=WAITING,
        )
        session.add(segment)
        session.flush()
        difference, contract = Difference(total=1), CREATE_SEGMENT
    else:
        difference = Difference(completed=-int(segment.status == COMPLETED))
        contract = UPDATE_SEGMENT
        segment.status, segment.error = WAITING, None
    add_to_counters(session, document.id, difference)
    edit = write_edit(session, segment, text, None, None)
    announce_edits(session, [edit], contract=contract, celery=celery)
    return segment_id


def _next_position(session: Session, document_id: UUID, version: int) -> int:
    last = session.scalar(
        select(func.max(DocumentSegment.position)).where(
            DocumentSegment.document_id == document_id, DocumentSegment.version == version
        )
    )
    return 0 if last is None else last + 1
