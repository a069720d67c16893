"""Segments as rows: bulk upserts by deterministic ids."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import text
from sqlalchemy.orm import Session

from worker.services.dataset import keywords
from worker.services.dataset.embedding import EmbeddedPassage
from worker.stores import binary_copy

#: The namespace of segment ids: fixed for ever, or every re-index would double its segments.
SEGMENT_NAMESPACE = UUID("6f0e1c52-8a43-5f6e-9d0b-3c8f5b7a2e91")

_UPSERT = text("""
    INSERT INTO document_segments (
        id, tenant_id, dataset_id, document_id, version, position, content,
        word_count, tokens, index_node_hash, page, answer
    )
    SELECT u.id, :tenant_id, :dataset_id, u.document_id, u.version, u.position, u.content,
           u.word_count, u.tokens, u.hash, NULLIF(u.page, 0), u.answer
    FROM unnest(
        CAST(:ids AS uuid[]), CAST(:positions AS int[]), CAST(:contents AS text[]),
        CAST(:word_counts AS int[]), CAST(:tokens AS int[]), CAST(:hashes AS text[]),
        CAST(:pages AS int[]), CAST(:answers AS text[]),
        CAST(:document_ids AS uuid[]), CAST(:versions AS int[])
    ) AS u(id, position, content, word_count, tokens, hash, page, answer, document_id, version)
    ON CONFLICT (document_id, version, position) DO UPDATE SET
        id = excluded.id, content = excluded.content, word_count = excluded.word_count,
        tokens = excluded.tokens, index_node_hash = excluded.index_node_hash, page = excluded.page,
        answer = excluded.answer
""")

_COPY = text("""
    COPY document_segments (
        id, tenant_id, dataset_id, document_id, version, position, content, answer,
        word_count, tokens, index_node_hash, page
    ) FROM STDIN (FORMAT binary)
""")

# By the hash too: one that was changed by hand since it was looked up is none of ours.
_CARRY = text("""
    INSERT INTO document_segments (
        id, tenant_id, dataset_id, document_id, version, position, content,
        word_count, tokens, index_node_hash, page, answer
    )
    SELECT u.id, :tenant_id, :dataset_id, :document_id, :version, u.position, source.content,
           u.word_count, u.tokens, source.index_node_hash, NULLIF(u.page, 0), u.answer
    FROM unnest(
        CAST(:ids AS uuid[]), CAST(:positions AS int[]), CAST(:sources AS uuid[]),
        CAST(:word_counts AS int[]), CAST(:tokens AS int[]), CAST(:hashes AS text[]),
        CAST(:pages AS int[]), CAST(:answers AS text[])
    ) AS u(id, position, source, word_count, tokens, hash, page, answer)
    JOIN document_segments AS source
      ON source.id = u.source AND source.index_node_hash = u.hash
    ON CONFLICT (document_id, version, position) DO UPDATE SET
        id = excluded.id, content = excluded.content, word_count = excluded.word_count,
        tokens = excluded.tokens, index_node_hash = excluded.index_node_hash, page = excluded.page,
        answer = excluded.answer
""")

# A segment was changed by hand: the words that were added to it are not its content's.
_BY_HASH = text("""
    SELECT segment.index_node_hash, segment.id, segment.tokens,
           CASE WHEN document.keyword_segments IS NOT NULL AND segment.keywords IS NULL
                     AND segment.status = 'completed'
                THEN coalesce(words.length, 0) END AS length
    FROM document_segments AS segment
    JOIN documents AS document ON document.id = segment.document_id
    LEFT JOIN segment_keywords AS words ON words.segment_id = segment.id
    WHERE segment.document_id = :document_id AND segment.version = :version
      AND segment.index_node_hash = ANY(:hashes)
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
    """A segment written earlier.

    Attributes:
        length: its words in the keyword index, ``None`` when those are not its content's.
    """

    id: UUID
    tokens: int
    length: int | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """All segments of a document's version, in order; ``owner`` is as ``write`` has it."""

    owner: dict[str, UUID | int]
    ids: Sequence[UUID]
    embedded: Sequence[EmbeddedPassage]


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
    positions: Sequence[int],
    ids: Sequence[UUID],
    embedded: Sequence[EmbeddedPassage],
) -> None:
    """Upsert segments in one statement of the caller's transaction.

    Args:
        session: the caller's.
        owner: ``tenant_id``, ``dataset_id``, ``document_id`` and ``version``.
        positions: each passage's in the document.
        ids: one a passage.
        embedded: the passages.
    """
    _upsert(session, [owner] * len(ids), positions, ids, embedded)


def write_several(session: Session, written: Sequence[Written]) -> None:
    """Upsert segments of several documents of one dataset, in one statement; as ``write``."""
    rows = [
        (one.owner, position, segment_id, embedded)
        for one in written
        for position, (segment_id, embedded) in enumerate(zip(one.ids, one.embedded, strict=True))
    ]
    owners, positions, ids, passages = zip(*rows, strict=True)
    _upsert(session, owners, positions, ids, passages)


def copy_several(session: Session, written: Sequence[Written]) -> None:
    """As ``write_several``, of documents that have no segments yet.

    Raises:
        IntegrityError: one has; the transaction is over.
    """
    binary_copy.copy(session, _COPY, (row for one in written for row in _copied(one)))


def _copied(written: Written) -> Iterator[bytes]:
    names = ("tenant_id", "dataset_id", "document_id", "version")
    owner = [binary_copy.number_or_id(written.owner[name]) for name in names]
    numbered = enumerate(zip(written.ids, written.embedded, strict=True))
    for position, (segment_id, one) in numbered:
        passage = one.passage
        yield binary_copy.row(
            binary_copy.uuid(segment_id),
            *owner,
            binary_copy.int4(position),
            binary_copy.text(passage.text),
            binary_copy.NULL if passage.answer is None else binary_copy.text(passage.answer),
            binary_copy.int4(one.words),
            binary_copy.int4(one.tokens),
            binary_copy.text(one.content_hash),
            binary_copy.int4(passage.page) if passage.page else binary_copy.NULL,
        )


def _upsert(
    session: Session,
    owners: Sequence[dict[str, UUID | int]],
    positions: Sequence[int],
    ids: Sequence[UUID],
    embedded: Sequence[EmbeddedPassage],
) -> None:
    if not owners:
        return
    values = _columns(owners[0], positions, ids, embedded)
    values["contents"] = [one.passage.text for one in embedded]
    values["document_ids"] = [str(one["document_id"]) for one in owners]
    values["versions"] = [one["version"] for one in owners]
    session.execute(_UPSERT, values)


def carry(
    session: Session,
    owner: dict[str, UUID | int],
    positions: Sequence[int],
    ids: Sequence[UUID],
    embedded: Sequence[EmbeddedPassage],
    sources: Sequence[UUID],
) -> int:
    """Upsert segments whose content another has; as ``write``, but the content is not sent.

    Args:
        session: the caller's.
        owner: as ``write``.
        positions: as ``write``.
        ids: one a passage.
        embedded: the passages.
        sources: who has it, one a passage.

    Returns:
        How many of them still have it.
    """
    values = _columns(owner, positions, ids, embedded)
    values["sources"] = [str(source) for source in sources]
    carried: Any = session.connection().execute(_CARRY, values)
    return int(carried.rowcount)


def by_hash(
    session: Session, document_id: UUID, version: int, hashes: Sequence[str]
) -> dict[str, StoredSegment]:
    """The version's segments with one of these content hashes."""
    values = {"document_id": document_id, "version": version, "hashes": list(hashes)}
    rows = session.execute(_BY_HASH, values)
    return {row.index_node_hash: StoredSegment(row.id, row.tokens, row.length) for row in rows}


def delete_other_versions(session: Session, document_id: UUID, keep: int | None) -> None:
    """Delete the document's segments of every version but ``keep``, with words and children."""
    keywords.delete_other_versions(session, document_id, keep)
    session.execute(_DELETE_CHILDREN, {"document_id": document_id, "keep": keep})
    session.execute(_DELETE, {"document_id": document_id, "keep": keep})


def _columns(
    owner: dict[str, UUID | int],
    positions: Sequence[int],
    ids: Sequence[UUID],
    embedded: Sequence[EmbeddedPassage],
) -> dict[str, Any]:
    return {
        **owner,
        "ids": [str(segment_id) for segment_id in ids],
        "positions": list(positions),
        "word_counts": [one.words for one in embedded],
        "tokens": [one.tokens for one in embedded],
        "hashes": [one.content_hash for one in embedded],
        "pages": [one.passage.page or 0 for one in embedded],
        "answers": [one.passage.answer for one in embedded],
    }
