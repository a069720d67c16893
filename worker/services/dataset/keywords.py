"""The keyword index as rows: written with the segments, ranked by BM25 in the database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from worker.services.dataset.words import WordCounts, count_words
from worker.stores.vectors import Match

_UPSERT = text("""
    INSERT INTO segment_keywords (
        segment_id, dataset_id, document_id, version, words, frequencies, length
    )
    SELECT u.id, :dataset_id, :document_id, :version,
           CAST(u.words AS bigint[]), CAST(u.frequencies AS smallint[]), u.length
    FROM unnest(
        CAST(:ids AS uuid[]), CAST(:words AS text[]), CAST(:frequencies AS text[]),
        CAST(:lengths AS int[])
    ) AS u(id, words, frequencies, length)
    ON CONFLICT (segment_id) DO UPDATE SET
        words = excluded.words, frequencies = excluded.frequencies, length = excluded.length
""")

# By the length too: words that were added by hand since they were looked up are not its own.
_CARRY = text("""
    INSERT INTO segment_keywords (
        segment_id, dataset_id, document_id, version, words, frequencies, length
    )
    SELECT u.id, :dataset_id, :document_id, :version,
           source.words, source.frequencies, source.length
    FROM unnest(
        CAST(:ids AS uuid[]), CAST(:sources AS uuid[]), CAST(:lengths AS int[])
    ) AS u(id, source, length)
    JOIN segment_keywords AS source
      ON source.segment_id = u.source AND source.length = u.length
    ON CONFLICT (segment_id) DO UPDATE SET
        words = excluded.words, frequencies = excluded.frequencies, length = excluded.length
""")

_DELETE = text("""
    DELETE FROM segment_keywords
    WHERE document_id = :document_id AND version IS DISTINCT FROM :keep
""")

_COVERAGE = text("""
    SELECT count(keyword_segments) AS with_keywords,
           count(*) - count(keyword_segments) AS without_keywords,
           coalesce(sum(keyword_segments), 0) AS segments,
           coalesce(sum(keyword_words), 0) AS words
    FROM documents
    WHERE dataset_id = :dataset_id AND active_version IS NOT NULL AND enabled AND NOT archived
""")

# BM25 with its usual constants (k1 = 1.2, b = 0.75), over the most that the question's words
# could add up to: so a score says how much of the question a passage holds, in any dataset.
# A word that is nowhere counts there too. How rare a word is does not depend on the filter.
_SEARCH = text("""
    WITH hits AS MATERIALIZED (
        SELECT k.segment_id, k.document_id, asked.word,
               k.frequencies[array_position(k.words, asked.word)]::float8 AS frequency,
               0.25 + 0.75 * k.length / :usual_length AS length
        FROM segment_keywords k
        JOIN documents d ON d.id = k.document_id AND d.active_version = k.version
        CROSS JOIN unnest(CAST(:words AS bigint[])) AS asked(word)
        WHERE k.words && CAST(:words AS bigint[]) AND asked.word = ANY(k.words)
          AND d.dataset_id = :dataset_id AND d.enabled AND NOT d.archived
          AND NOT EXISTS (
              SELECT FROM document_segments s
              WHERE s.dataset_id = :dataset_id AND s.id = k.segment_id AND NOT s.enabled
          )
    ), rarity AS MATERIALIZED (
        SELECT asked.word,
               ln(1 + (greatest(:segments - count(segment_id), 0) + 0.5)
                      / (count(segment_id) + 0.5))::float8 AS weight
        FROM unnest(CAST(:words AS bigint[])) AS asked(word)
        LEFT JOIN hits USING (word)
        GROUP BY asked.word
    )
    SELECT segment_id,
           sum(weight * frequency / (frequency + 1.2 * length))
               / (SELECT sum(weight) FROM rarity) AS score
    FROM hits JOIN rarity USING (word)
    WHERE CAST(:documents AS uuid[]) IS NULL OR document_id = ANY(CAST(:documents AS uuid[]))
    GROUP BY segment_id
    ORDER BY score DESC, segment_id
    LIMIT :limit
""")


@dataclass(frozen=True, slots=True)
class Coverage:
    """What of a dataset a keyword search can see.

    Attributes:
        with_keywords: documents that have keywords.
        without_keywords: documents that search sees, indexed without.
        segments: of the former.
        words: of these segments, repeated ones too.
    """

    with_keywords: int
    without_keywords: int
    segments: int
    words: int


def count(texts: Sequence[str], dataset_id: UUID) -> list[WordCounts]:
    """The words of passages; takes processor time, so call it outside a transaction."""
    return [count_words(one, dataset_id) for one in texts]


def write(
    session: Session,
    owner: dict[str, UUID | int],
    ids: Sequence[UUID],
    counts: Sequence[WordCounts],
) -> None:
    """Upsert the words of segments in one statement of the caller's transaction.

    Args:
        session: the caller's.
        owner: ``dataset_id``, ``document_id`` and ``version``.
        ids: the segments'.
        counts: one a segment; those without a word get no row.
    """
    filled = [pair for pair in zip(ids, counts, strict=True) if pair[1].length]
    if filled:
        session.execute(
            _UPSERT,
            {
                **owner,
                "ids": [str(segment_id) for segment_id, _ in filled],
                "words": [_literal(one.numbers) for _, one in filled],
                "frequencies": [_literal(one.frequencies) for _, one in filled],
                "lengths": [one.length for _, one in filled],
            },
        )


def carry(
    session: Session, owner: dict[str, UUID | int], sources: Mapping[UUID, tuple[UUID, int]]
) -> int:
    """Upsert the words of segments that have another's content; as ``write``, none is sent.

    Args:
        session: the caller's.
        owner: ``dataset_id``, ``document_id`` and ``version``.
        sources: the other segment and its number of words, by the new one.

    Returns:
        How many of them still have these words.
    """
    values = {
        **owner,
        "ids": [str(one) for one in sources],
        "sources": [str(source) for source, _ in sources.values()],
        "lengths": [length for _, length in sources.values()],
    }
    carried: Any = session.connection().execute(_CARRY, values)
    return int(carried.rowcount)


def delete_other_versions(session: Session, document_id: UUID, keep: int | None) -> None:
    """Delete the document's keywords of every version but ``keep``."""
    session.execute(_DELETE, {"document_id": document_id, "keep": keep})


def coverage(session: Session, dataset_id: UUID) -> Coverage:
    """How many documents that search sees have keywords, as of their last indexing."""
    row = session.execute(_COVERAGE, {"dataset_id": dataset_id}).one()
    return Coverage(row.with_keywords, row.without_keywords, int(row.segments), int(row.words))


def search(
    session: Session,
    dataset_id: UUID,
    question: str,
    limit: int,
    documents: Sequence[UUID] | None,
    known: Coverage,
) -> list[Match]:
    """The segments that hold most of the question's words, best first.

    Only enabled segments of the active version of enabled documents, and of
    ``documents`` if given. The score is the share of the question that a
    passage holds, rare words weighing more: above 0, below 1.
    """
    words = count_words(question, dataset_id).numbers
    if not words or not known.segments:
        return []
    rows = session.execute(
        _SEARCH,
        {
            "dataset_id": dataset_id,
            "words": words,
            "documents": None if documents is None else [str(one) for one in documents],
            "limit": limit,
            "segments": known.segments,
            "usual_length": max(known.words / known.segments, 1.0),
        },
    )
    return [Match(row.segment_id, float(row.score)) for row in rows]


def _literal(numbers: Sequence[int]) -> str:
    return "{" + ",".join(map(str, numbers)) + "}"
