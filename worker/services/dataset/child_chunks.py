"""Children as rows: bulk upserts by deterministic ids."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid5

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from shared.models import ChildChunk
from worker.services.dataset.embedding import EmbeddedPassage
from worker.services.dataset.segments import SEGMENT_NAMESPACE, StoredSegment

_UPSERT = text("""
    INSERT INTO child_chunks (
        id, tenant_id, dataset_id, document_id, version, segment_id, position, content,
        word_count, tokens, index_node_hash
    )
    SELECT u.id, :tenant_id, :dataset_id, :document_id, :version, u.segment_id, u.position,
           u.content, u.word_count, u.tokens, u.hash
    FROM unnest(
        CAST(:ids AS uuid[]), CAST(:segment_ids AS uuid[]), CAST(:positions AS int[]),
        CAST(:contents AS text[]), CAST(:word_counts AS int[]), CAST(:tokens AS int[]),
        CAST(:hashes AS text[])
    ) AS u(id, segment_id, position, content, word_count, tokens, hash)
    ON CONFLICT (segment_id, position) DO UPDATE SET
        id = excluded.id, content = excluded.content, word_count = excluded.word_count,
        tokens = excluded.tokens, index_node_hash = excluded.index_node_hash
""")


@dataclass(frozen=True, slots=True)
class Child:
    """A child about to be written."""

    id: UUID
    segment_id: UUID
    position: int
    embedded: EmbeddedPassage


def children_of(
    segment_ids: Sequence[UUID], embedded: Sequence[EmbeddedPassage]
) -> Iterator[Child]:
    """The children of consecutive segments, with ids of segment, position and content hash."""
    for segment_id, parent in zip(segment_ids, embedded, strict=True):
        for position, one in enumerate(parent.children):
            child_id = uuid5(SEGMENT_NAMESPACE, f"{segment_id}/{position}/{one.content_hash}")
            yield Child(child_id, segment_id, position, one)


def write(session: Session, owner: dict[str, UUID | int], children: Sequence[Child]) -> None:
    """Upsert children in one statement of the caller's transaction.

    Args:
        session: the caller's.
        owner: ``tenant_id``, ``dataset_id``, ``document_id`` and ``version``.
        children: of one batch of segments.
    """
    session.execute(
        _UPSERT,
        {
            **owner,
            "ids": [str(one.id) for one in children],
            "segment_ids": [str(one.segment_id) for one in children],
            "positions": [one.position for one in children],
            "contents": [one.embedded.passage.text for one in children],
            "word_counts": [one.embedded.words for one in children],
            "tokens": [one.embedded.tokens for one in children],
            "hashes": [one.embedded.content_hash for one in children],
        },
    )


def by_hash(
    session: Session, document_id: UUID, version: int, hashes: Sequence[str]
) -> dict[str, StoredSegment]:
    """The version's children with one of these content hashes."""
    rows = session.execute(
        select(ChildChunk.index_node_hash, ChildChunk.id, ChildChunk.tokens).where(
            ChildChunk.document_id == document_id,
            ChildChunk.version == version,
            ChildChunk.index_node_hash.in_(hashes),
        )
    )
    return {row.index_node_hash: StoredSegment(row.id, row.tokens) for row in rows}
