"""What a version's vectors and keywords are made of, read again from its rows."""

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session, sessionmaker

from shared.models import ChildChunk, DocumentSegment
from shared.models.process_rule import DocForm


@dataclass(frozen=True, slots=True)
class StoredText:
    """A segment's text, or a child's."""

    id: UUID
    content: str


def embedded_texts(
    sessions: sessionmaker[Session], document_id: UUID, version: int, doc_form: str, size: int
) -> Iterator[list[StoredText]]:
    """Pages of the texts that carry vectors: segments, or the children in their place."""
    if doc_form == DocForm.HIERARCHICAL:
        return _children(sessions, document_id, version, size)
    return segment_texts(sessions, document_id, version, size)


def segment_texts(
    sessions: sessionmaker[Session], document_id: UUID, version: int, size: int
) -> Iterator[list[StoredText]]:
    """Pages of segments in order; no transaction is open between two."""
    last = -1
    while True:
        query = (
            select(DocumentSegment.id, DocumentSegment.content, DocumentSegment.position)
            .where(
                DocumentSegment.document_id == document_id,
                DocumentSegment.version == version,
                DocumentSegment.position > last,
            )
            .order_by(DocumentSegment.position)
            .limit(size)
        )
        with sessions() as session:
            rows = session.execute(query).all()
        if not rows:
            return
        yield [StoredText(row.id, row.content) for row in rows]
        last = rows[-1].position


def _children(
    sessions: sessionmaker[Session], document_id: UUID, version: int, size: int
) -> Iterator[list[StoredText]]:
    # By content hash: the order of the index there is.
    key = tuple_(ChildChunk.index_node_hash, ChildChunk.id)
    last = ("", UUID(int=0))
    while True:
        query = (
            select(ChildChunk.id, ChildChunk.content, ChildChunk.index_node_hash)
            .where(ChildChunk.document_id == document_id, ChildChunk.version == version, key > last)
            .order_by(ChildChunk.index_node_hash, ChildChunk.id)
            .limit(size)
        )
        with sessions() as session:
            rows = session.execute(query).all()
        if not rows:
            return
        yield [StoredText(row.id, row.content) for row in rows]
        last = (rows[-1].index_node_hash, rows[-1].id)
