"""Which words of a large dataset are frequent: measured from a sample, beside the searches.

A search that knows it reads what the rare words of its question lead to, and not every
segment that has one of the others. Nothing is kept while documents are indexed: counters of
words would be rows that all workers write.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

#: Smaller datasets are searched without: as many rows are read in a tenth of a second.
LEAST_SEGMENTS = 20_000
#: Segments looked at: a word in a thousandth of the dataset is seen 20 times.
_SAMPLE = 20_000
#: What is seen less often is rare, or nothing is known of it.
_LEAST_SEEN = 4

# Locked against its deletion only: what is written refers to it.
_NEXT_DATASET = text("""
    SELECT id FROM datasets WHERE id > :after ORDER BY id LIMIT 1 FOR KEY SHARE
""")
_TOTALS = """
    SELECT count(keyword_segments) AS with_keywords,
           count(*) - count(keyword_segments) AS without_keywords,
           coalesce(sum(keyword_segments), 0) AS segments,
           coalesce(sum(keyword_words), 0) AS words
    FROM documents
    WHERE dataset_id = :dataset_id AND active_version IS NOT NULL AND enabled AND NOT archived
"""
# A fifth more or less, or a week: other words are frequent by now.
_KEEP_TOTALS = text(f"""
    INSERT INTO keyword_totals AS known (
        dataset_id, with_keywords, without_keywords, segments, words, segments_then
    )
    SELECT :dataset_id, now.with_keywords, now.without_keywords, now.segments, now.words, 0
    FROM ({_TOTALS}) AS now WHERE now.segments >= :least
    ON CONFLICT (dataset_id) DO UPDATE SET
        with_keywords = excluded.with_keywords, without_keywords = excluded.without_keywords,
        segments = excluded.segments, words = excluded.words
    RETURNING abs(segments - segments_then) > segments_then / 5
              OR measured_at < now() - interval '7 days' AS is_due
""")  # noqa: S608 - no input in it
_FORGET = (
    text("DELETE FROM keyword_totals WHERE dataset_id = :dataset_id"),
    text("DELETE FROM frequent_words WHERE dataset_id = :dataset_id"),
)
# Some of many documents, whatever their size; all of a few.
_MEASURE = text("""
    WITH chosen AS MATERIALIZED (
        SELECT id, active_version FROM documents
        WHERE dataset_id = :dataset_id AND keyword_segments > 0
          AND active_version IS NOT NULL AND enabled AND NOT archived
        ORDER BY random()
        LIMIT (
            SELECT greatest(100, with_keywords * CAST(:sample AS float8) / segments)::bigint
            FROM keyword_totals WHERE dataset_id = :dataset_id
        )
    ), sample AS MATERIALIZED (
        SELECT found.words FROM chosen CROSS JOIN LATERAL (
            SELECT words FROM segment_keywords
            WHERE document_id = chosen.id AND version = chosen.active_version
            LIMIT (SELECT 2 * :sample / count(*) FROM chosen)
        ) AS found
    )
    INSERT INTO frequent_words (dataset_id, word, share)
    SELECT :dataset_id, word, count(*) / (SELECT count(*) FROM sample)::float8
    FROM sample CROSS JOIN unnest(sample.words) AS word
    GROUP BY word HAVING count(*) >= :least_seen
""")
_MEASURED = text("""
    UPDATE keyword_totals SET segments_then = segments, measured_at = now()
    WHERE dataset_id = :dataset_id
""")
# The documents are read only where nothing was measured: their part of the plan is not begun.
_KNOWN = text(f"""
    WITH known AS MATERIALIZED (
        SELECT with_keywords, without_keywords, segments, words FROM keyword_totals
        WHERE dataset_id = :dataset_id AND segments_then > 0 AND with_keywords > 0
    )
    SELECT with_keywords, without_keywords, segments, words, true AS is_measured, (
               SELECT json_object_agg(word, share) FROM frequent_words
               WHERE dataset_id = :dataset_id AND word = ANY(CAST(:asked AS bigint[]))
           ) AS frequent
    FROM known
    UNION ALL
    SELECT now.*, false, NULL FROM ({_TOTALS}) AS now
    WHERE NOT EXISTS (SELECT FROM known)
""")  # noqa: S608 - no input in it


@dataclass(frozen=True, slots=True)
class Coverage:
    """What of a dataset a keyword search can see.

    Attributes:
        with_keywords: documents that have keywords.
        without_keywords: documents that search sees, indexed without.
        segments: of the former.
        words: of these segments, repeated ones too.
        shares: of a large dataset, in which share of the segments each of the words is that
            were asked about, those that are frequent; ``None`` where nothing was measured.
    """

    with_keywords: int
    without_keywords: int
    segments: int
    words: int
    shares: dict[int, float] | None = None

    @property
    def usual_length(self) -> float:
        """Words of a segment, at least 1."""
        return max(self.words / self.segments, 1.0) if self.segments else 1.0


#: Where nobody asks by keyword.
NO_KEYWORDS = Coverage(0, 0, 0, 0)


def coverage(session: Session, dataset_id: UUID, words: Sequence[int]) -> Coverage:
    """How many documents that search sees have keywords, and which of these words are frequent.

    Of a large dataset as it was measured, at most about an hour ago; of others as of now.
    """
    row = session.execute(_KNOWN, {"dataset_id": dataset_id, "asked": list(words)}).one()
    numbers = (row.with_keywords, row.without_keywords, int(row.segments), int(row.words))
    if not row.is_measured:
        return Coverage(*numbers)
    return Coverage(*numbers, {int(word): share for word, share in (row.frequent or {}).items()})


def measure_words(sessions: sessionmaker[Session], least: int = LEAST_SEGMENTS) -> Iterator[UUID]:
    """Measure the large datasets that were not, or have changed since; each as it is iterated.

    Safe to repeat and to die in the middle of: a dataset's words are replaced in one transaction.

    Yields:
        Those whose words were looked at.
    """
    after = UUID(int=0)
    while True:
        with sessions.begin() as session:
            if session.get_bind().dialect.name != "postgresql":
                return  # only the search that goes by an index of words can use it
            found = session.scalar(_NEXT_DATASET, {"after": after})
            if found is None:
                return
            after = found
            is_measured = _measure(session, after, least)
        if is_measured:
            yield after


def _measure(session: Session, dataset_id: UUID, least: int) -> bool:
    values = {"dataset_id": dataset_id}
    is_due = session.scalar(_KEEP_TOTALS, {**values, "least": least})
    if is_due is None:
        for statement in _FORGET:
            session.execute(statement, values)
        return False
    if is_due:
        session.execute(_FORGET[1], values)
        session.execute(_MEASURE, {**values, "sample": _SAMPLE, "least_seen": _LEAST_SEEN})
        session.execute(_MEASURED, values)
    return bool(is_due)
