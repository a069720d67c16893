"""What deleted documents and datasets leave is deleted too, a short transaction a batch.

Their own rows go first and at once: search does not see them, and whoever works on one
loses its lease. A trigger notes each in ``removals``; the note goes when nothing is
left. So any of this may die at any line, or be done twice: what is noted is done.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    and_,
    any_,
    delete,
    exists,
    func,
    literal,
    literal_column,
    not_,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.orm import Session, sessionmaker

from shared.models import ChildChunk, DocumentSegment, Removal, SegmentKeywords, SegmentVector
from shared.models.types import MYSQL
from shared.models.vector import keeps_vectors
from worker.delivery import runs
from worker.services.dataset.files_removal import RemovableFiles, remove_files
from worker.stores.vector_stores import VectorStores

#: The tables that hold what documents consist of, beside the vector store; in the order of
#: deletion. A test compares them with the models.
CONTENT = (SegmentKeywords, ChildChunk, DocumentSegment)
Content = type[SegmentKeywords] | type[ChildChunk] | type[DocumentSegment]

#: Documents cleaned up together.
_CHUNK = 200
#: Rows of documents deleted in one transaction, where the producer left that to the task.
_DOCUMENTS = 1000

_DELETE_DOCUMENTS = text("""
    DELETE FROM documents WHERE id IN (
        SELECT id FROM documents
        WHERE dataset_id = :dataset_id AND (:whole OR id = ANY(CAST(:ids AS uuid[])))
        ORDER BY id LIMIT :limit FOR UPDATE
    )
    RETURNING id, index_version
""")
_DELETE_DATASET = text("DELETE FROM datasets WHERE id = :dataset_id")
_NOTED = text("""
    SELECT document_id FROM removals
    WHERE kind = 'document' AND dataset_id = :dataset_id
      AND (:whole OR document_id = ANY(CAST(:ids AS uuid[])))
      AND document_id > :after
    ORDER BY document_id LIMIT :limit
""")
_IS_LEFT = or_(*(exists().where(kind.document_id == Removal.document_id) for kind in CONTENT))
_HAS_VECTORS = exists().where(SegmentVector.document_id == Removal.document_id)
_DATASET_DONE = text("""
    DELETE FROM removals WHERE kind = 'dataset' AND dataset_id = :dataset_id
      AND NOT EXISTS (
          SELECT 1 FROM removals AS left_over
          WHERE left_over.dataset_id = :dataset_id AND left_over.kind = 'document'
      )
""")


class Guard(Protocol):
    """The courtesy flag that a document is being indexed."""

    def release(self, document_id: UUID, version: int) -> None:
        """Take it away, if it is still this version's."""


@dataclass(frozen=True, slots=True)
class RemovalNeeds:
    """What cleaning up takes.

    Attributes:
        batch_rows: rows deleted in one transaction.
        file_grace_seconds: how long a file that was set aside can be brought back.
    """

    sessions: sessionmaker[Session]
    vectors: VectorStores
    files: RemovableFiles
    guard: Guard
    batch_rows: int
    file_grace_seconds: float


def clean_documents(dataset_id: UUID, documents: Sequence[UUID], needs: RemovalNeeds) -> None:
    """Delete documents of a dataset and all that belongs to them; those that are gone likewise.

    Raises:
        ServiceUnavailable: (transient) a store does not answer; the rest is done later.
    """
    _delete_rows(dataset_id, documents, needs)
    _clean_noted(dataset_id, documents, needs)


def clean_dataset(dataset_id: UUID, needs: RemovalNeeds) -> None:
    """Delete a dataset, its documents and all that belongs to them.

    Raises:
        ServiceUnavailable: (transient) a store does not answer; the rest is done later.
    """
    _delete_rows(dataset_id, None, needs)
    with needs.sessions.begin() as session:
        session.execute(_DELETE_DATASET, {"dataset_id": dataset_id})
    _clean_noted(dataset_id, None, needs)
    with needs.sessions.begin() as session:
        session.execute(_DATASET_DONE, {"dataset_id": dataset_id})


def _chosen(dataset_id: UUID, documents: Sequence[UUID] | None) -> dict[str, object]:
    ids = list(map(str, documents or ()))
    return {"dataset_id": dataset_id, "whole": documents is None, "ids": ids}


def _delete_rows(dataset_id: UUID, documents: Sequence[UUID] | None, needs: RemovalNeeds) -> None:
    values = {**_chosen(dataset_id, documents), "limit": _DOCUMENTS}
    while True:
        runs.checkpoint()
        with needs.sessions.begin() as session:
            deleted = session.execute(_DELETE_DOCUMENTS, values).all()
        for row in deleted:
            needs.guard.release(row.id, row.index_version)
        if len(deleted) < _DOCUMENTS:
            return


def _clean_noted(dataset_id: UUID, documents: Sequence[UUID] | None, needs: RemovalNeeds) -> None:
    values = {**_chosen(dataset_id, documents), "limit": _CHUNK}
    after = UUID(int=0)
    while True:
        with needs.sessions() as session:
            noted = list(session.scalars(_NOTED, {**values, "after": after}))
        if not noted:
            return
        after = noted[-1]
        _empty(noted, needs)
        with needs.sessions.begin() as session:
            files = _note_done(session, noted)
        remove_files(needs.sessions, needs.files, files, needs.file_grace_seconds)


def _empty(documents: Sequence[UUID], needs: RemovalNeeds) -> None:
    deleted = needs.batch_rows
    while deleted >= needs.batch_rows:
        runs.checkpoint()
        with needs.sessions.begin() as session:
            deleted = needs.vectors.delete_other_generations(
                session, documents, (), needs.batch_rows
            )
    for kind in CONTENT:
        deleted = needs.batch_rows
        while deleted >= needs.batch_rows:
            runs.checkpoint()
            with needs.sessions.begin() as session:
                deleted = _delete_batch(session, kind, documents, needs.batch_rows)


def _delete_batch(session: Session, kind: Content, documents: Sequence[UUID], limit: int) -> int:
    if session.get_bind().dialect.name in MYSQL:
        return _delete_by_key(session, kind, documents, limit)
    # By place and not by id: each batch reads no more rows than it deletes.
    place: ColumnElement[Any] = literal_column("ctid")
    places = (
        select(place)
        .select_from(kind)
        .where(kind.document_id.in_(documents))
        .limit(limit)
        .with_for_update(skip_locked=True)
        .correlate(None)
        .scalar_subquery()
    )
    statement = delete(kind).where(place == any_(func.array(places))).returning(literal(1))
    return len(session.connection().execute(statement).all())


def _delete_by_key(session: Session, kind: Content, documents: Sequence[UUID], limit: int) -> int:
    (key,) = kind.__table__.primary_key
    chosen = session.scalars(
        select(key)
        .where(kind.document_id.in_(documents))
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    session.connection().execute(delete(kind).where(key.in_(chosen)))
    return len(chosen)


def _note_done(session: Session, documents: Sequence[UUID]) -> list[UUID]:
    """Do away with the notes of which nothing is left; those of their files go on."""
    # What another clean-up is deleting at this moment is left to it.
    connection = session.connection()
    is_left = or_(_IS_LEFT, _HAS_VECTORS) if keeps_vectors(connection) else _IS_LEFT
    empty = and_(Removal.kind == "document", Removal.document_id.in_(documents), not_(is_left))
    files = connection.scalars(
        update(Removal)
        .where(empty, Removal.upload_file_id.is_not(None))
        .values(kind="upload_file", document_id=None)
        .returning(Removal.id)
    ).all()
    connection.execute(delete(Removal).where(empty, Removal.upload_file_id.is_(None)))
    return list(files)
