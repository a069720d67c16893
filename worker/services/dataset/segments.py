"""Segments as rows: bulk upserts by deterministic ids."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID, uuid5

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from shared.models import DocumentSegment
from worker.services.dataset import keywords
from worker.services.dataset.embedding import EmbeddedPassage

#: The namespace of segment ids: fixed for ever, or every re-index would double its segments.
SEGMENT_NAMESPACE = UUID("6f0e1c52-8a43-5f6e-9d0b-3c8f5b7a2e91")

_UPSERT = text("""
    INSERT INTO document_segments (
        id, tenant_id, dataset_id, document_id, version, position, content,
        word_count, tokens, index_node_hash, page, answer
    )
    SELECT u.id, :tenant_id, :dataset_id, :document_id, :version, u.position, u.content,
           u.word_count, u.tokens, u.hash, NULLIF(u.page, 0), u.answer
    FROM unnest(
        CAST(:ids AS uuid[]), CAST(:positions AS int[]), CAST(:contents AS text[]),
        CAST(:word_counts AS int[]), CAST(:tokens AS int[]), CAST(:hashes AS text[]),
        CAST(:pages AS int[]), CAST(:answers AS text[])
    ) AS u(id, position, content, word_count, tokens, hash, page, answer)
    ON CONFLICT (document_id, version, position) DO UPDATE SET
        id = excluded.id, content = excluded.content, word_count = excluded.word_count,
        tokens = excluded.tokens, index_node_hash = excluded.index_node_hash, page = excluded.page,
        answer = excluded.answer
""")

_DELETE = text("""
    DELETE FROM document_segments
    WHERE document_id = :document_id AND version IS DISTINCT FROM :keep
""")

_DELETE_CHILDREN = text("""
    DELETE FROM child_chunks WHERE document_id = :document_id AND version IS DISTINCT FROM :keep
""")


@dataclass(frozen=True, slots=True)
class StoredSegment:
    """A segment written earlier, and its number of tokens."""

    id: UUID
    tokens: int


def segment_ids(
    document_id: UUID, version: int, first_position: int, hashes: Sequence[str]
) -> list[UUID]:
    """UUIDv5 of document, version, position and content hash, for consecutive segments."""
    return [
        uuid5(SEGMENT_NAMESPACE, f"{document_id}/{version}/{position}/{content_hash}")
        for position, content_hash in enumerate(hashes, first_position)
    ]


def write(
    session: Session,
    owner: dict[str, UUID | int],
    first_position: int,
    ids: Sequence[UUID],
    embedded: Sequence[EmbeddedPassage],
) -> None:
    """Upsert consecutive segments in one statement of the caller's transaction.

    Args:
        session: the caller's.
        owner: ``tenant_id``, ``dataset_id``, ``document_id`` and ``version``.
        first_position: the first passage's position in the document.
        ids: one a passage.
        embedded: the passages.
    """
    session.execute(
        _UPSERT,
        {
            **owner,
            "ids": [str(segment_id) for segment_id in ids],
            "positions": list(range(first_position, first_position + len(embedded))),
            "contents": [one.passage.text for one in embedded],
            "word_counts": [one.words for one in embedded],
            "tokens": [one.tokens for one in embedded],
            "hashes": [one.content_hash for one in embedded],
            "pages": [one.passage.page or 0 for one in embedded],
            "answers": [one.passage.answer for one in embedded],
        },
    )


def by_hash(
    session: Session, document_id: UUID, version: int, hashes: Sequence[str]
) -> dict[str, StoredSegment]:
    """The version's segments with one of these content hashes."""
    rows = session.execute(
        select(DocumentSegment.index_node_hash, DocumentSegment.id, DocumentSegment.tokens).where(
            DocumentSegment.document_id == document_id,
            DocumentSegment.version == version,
            DocumentSegment.index_node_hash.in_(hashes),
        )
    )
    return {row.index_node_hash: StoredSegment(row.id, row.tokens) for row in rows}


def delete_other_versions(session: Session, document_id: UUID, keep: int | None) -> None:
    """Delete the document's segments of every version but ``keep``, with words and children."""
    keywords.delete_other_versions(session, document_id, keep)
    session.execute(_DELETE_CHILDREN, {"document_id": document_id, "keep": keep})
    session.execute(_DELETE, {"document_id": document_id, "keep": keep})
