"""Vectors of indexes that search does not use any more are deleted, a few at a time."""

from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from shared.models import Dataset, Document
from worker.delivery import runs
from worker.services.dataset.index_needs import IndexNeeds

#: Documents looked at together, and vectors deleted in one transaction.
_DOCUMENTS = 200
_VECTORS = 2000

_KEPT = text("""
    SELECT generation FROM dataset_index_builds
    WHERE dataset_id = :dataset_id AND status = 'running'
""")


def clean_index(dataset_id: UUID, needs: IndexNeeds) -> int:
    """Delete the dataset's vectors of all indexes but those in use or being built.

    Safe to repeat, and to die in the middle of. Of a deleted dataset it deletes nothing:
    that is the clean-up of datasets.

    Returns:
        How many vectors the store deleted at once; an external one does it later.
    """
    deleted, last = 0, 0
    while page := _page(dataset_id, last, needs):
        documents = [document for document, _ in page]
        while True:
            runs.checkpoint()
            with needs.sessions.begin() as session:
                number = _delete(session, dataset_id, documents, needs)
            deleted += number
            if number < _VECTORS:
                break
        last = page[-1][1]
    return deleted


def _page(dataset_id: UUID, last: int, needs: IndexNeeds) -> list[tuple[UUID, int]]:
    query = (
        select(Document.id, Document.position)
        .where(Document.dataset_id == dataset_id, Document.position > last)
        .order_by(Document.position)
        .limit(_DOCUMENTS)
    )
    with needs.sessions() as session:
        return [(row.id, row.position) for row in session.execute(query)]


def _delete(session: Session, dataset_id: UUID, documents: list[UUID], needs: IndexNeeds) -> int:
    # Locked: nobody begins an index meanwhile, whose vectors would look like leavings.
    query = select(Dataset.index_generation).where(Dataset.id == dataset_id)
    used = session.scalar(query.with_for_update(read=True))
    if used is None:
        return 0
    kept = [used, *session.scalars(_KEPT, {"dataset_id": dataset_id})]
    return needs.vectors.delete_other_generations(session, documents, kept, _VECTORS)
