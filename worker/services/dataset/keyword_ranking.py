"""The segments that hold most of a question's words: ranked by BM25 in the database.

Of a small dataset every segment is looked at that has one of the words. Of a large one only
those that may be among the best; how frequent the other words are is known already.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.orm import Session

from shared.sql import text_by_database
from worker.services.dataset.keyword_candidates import Candidates, candidates_of
from worker.services.dataset.keyword_statistics import Coverage
from worker.stores.vectors import Match

#: Segments looked at for a question to a large dataset, as far as can be foreseen.
_CANDIDATES = 5_000
#: And at most, whatever was foreseen.
_MOST_CANDIDATES = 40_000
#: How many times more, where those were too few.
_WIDENING = 8

# BM25 with its usual constants (k1 = 1.2, b = 0.75), over the most that the question's words
# could add up to: so a score says how much of the question a passage holds, in any dataset.
# A word that is nowhere counts there too. How rare a word is does not depend on the filter.
_EXACT = text_by_database(
    """
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
""",
    mariadb="""
    WITH hits AS (
        SELECT k.segment_id, k.document_id, asked.word,
               JSON_EXTRACT(k.frequencies, CONCAT('$[', asked.place - 1, ']')) + 0e0 AS frequency,
               0.25 + 0.75 * k.length / :usual_length AS length
        FROM documents AS d
        JOIN segment_keywords AS k ON k.document_id = d.id AND k.version = d.active_version
        JOIN JSON_TABLE(k.words, '$[*]' COLUMNS (
            place FOR ORDINALITY, word BIGINT PATH '$'
        )) AS asked
        WHERE JSON_OVERLAPS(k.words, :words) AND asked.word IN :LIST__words
          AND d.dataset_id = :dataset_id AND d.enabled AND NOT d.archived
          AND NOT EXISTS (
              SELECT 1 FROM document_segments AS s WHERE s.id = k.segment_id AND NOT s.enabled
          )
    ), rarity AS (
        SELECT asked.word,
               LN(1 + (GREATEST(:segments - COUNT(segment_id), 0) + 0.5)
                      / (COUNT(segment_id) + 0.5)) AS weight
        FROM JSON_TABLE(:words, '$[*]' COLUMNS (word BIGINT PATH '$')) AS asked
        LEFT JOIN hits ON hits.word = asked.word
        GROUP BY asked.word
    )
    SELECT segment_id,
           SUM(weight * frequency / (frequency + 1.2 * length))
               / (SELECT SUM(weight) FROM rarity) AS score
    FROM hits JOIN rarity USING (word)
    WHERE :documents IS NULL OR document_id IN :IDS__documents
    GROUP BY segment_id
    ORDER BY score DESC, segment_id
    LIMIT :limit
""",
)

# A scan of the table would read all datasets; compiling takes longer than what is compiled.
_BY_INDEX = "SET LOCAL enable_seqscan = off; SET LOCAL jit = off;"
# As above, of the candidates. What is hidden is left out of the best only, row by row (a join
# would read the dataset's documents): it counts in how rare a word is, and is little.
_BOUNDED = """
    WITH asked AS MATERIALIZED (
        SELECT word, known FROM unnest(
            CAST(:words AS bigint[]), CAST(:known AS float8[])
        ) AS asked(word, known)
    ), hits AS MATERIALIZED (
        SELECT k.segment_id, k.document_id, k.version, asked.word,
               k.frequencies[array_position(k.words, asked.word)]::float8 AS frequency,
               0.25 + 0.75 * k.length / :usual_length AS length
        FROM (
            SELECT segment_id, document_id, version, words, frequencies, length
            FROM segment_keywords k WHERE {candidates} LIMIT :most
        ) AS k CROSS JOIN asked
        WHERE asked.word = ANY(k.words)
    ), rarity AS MATERIALIZED (
        SELECT word, ln(1 + (greatest(:segments - number, 0) + 0.5) / (number + 0.5))::float8
                     AS weight
        FROM (
            SELECT asked.word, coalesce(asked.known, counted.number, 0) AS number
            FROM asked LEFT JOIN ({counted}) AS counted USING (word)
        ) AS numbers
    ), scored AS MATERIALIZED (
        SELECT segment_id, document_id, version,
               sum(weight * frequency / (frequency + 1.2 * length))
                   / (SELECT sum(weight) FROM rarity) AS score
        FROM hits JOIN rarity USING (word)
        GROUP BY segment_id, document_id, version
        ORDER BY score DESC, segment_id
    )
    SELECT segment_id, score, (SELECT count(*) FROM scored) AS candidates
    FROM scored
    WHERE (
        SELECT d.active_version = scored.version AND d.enabled AND NOT d.archived
        FROM documents d WHERE d.id = scored.document_id
    ) AND (SELECT s.enabled FROM document_segments s WHERE s.id = scored.segment_id)
    LIMIT :limit
"""
_COUNTED = "SELECT word, count(*) AS number FROM hits GROUP BY word"
# Where a filter leaves out some of those that have a rare word, they are counted apart.
_COUNTED_APART = """
    SELECT rare.word, count(*) AS number
    FROM unnest(CAST(:rare AS bigint[])) AS rare(word)
    JOIN segment_keywords k ON k.words && CAST(:rare AS bigint[]) AND rare.word = ANY(k.words)
    GROUP BY rare.word
"""
_SEGMENTS = text("""
    SELECT coalesce(sum(total_segments), 0) FROM documents
    WHERE id = ANY(CAST(:documents AS uuid[]))
""")
_OF_DOCUMENTS = "AND k.document_id = ANY(CAST(:documents AS uuid[]))"


def rank(
    session: Session,
    dataset_id: UUID,
    words: Sequence[int],
    limit: int,
    documents: Sequence[UUID] | None,
    known: Coverage,
) -> list[Match]:
    """The segments that hold most of the words, best first.

    Only enabled segments of the active version of enabled documents, and of
    ``documents`` if given. The score is the share of the question that a
    passage holds, rare words weighing more: above 0, below 1.
    """
    if not words or not known.segments:
        return []
    values = {
        "dataset_id": dataset_id,
        "words": list(words),
        "documents": None if documents is None else [str(one) for one in documents],
        "limit": limit,
        "segments": known.segments,
        "usual_length": known.usual_length,
    }
    found = None if known.shares is None else _bounded(session, values, known, limit)
    if found is None:
        rows = session.execute(_EXACT, values)
        found = [Match(row.segment_id, float(row.score)) for row in rows]
    return found


def _bounded(
    session: Session, values: dict[str, Any], known: Coverage, limit: int
) -> list[Match] | None:
    """The best of the candidates; ``None`` where all segments have to be looked at."""
    words, shares = values["words"], known.shares or {}
    values = {
        **values,
        "known": [shares[one] * known.segments if one in shares else None for one in words],
        "rare": [one for one in words if one not in shares],
        "most": _MOST_CANDIDATES,
    }
    has_filter, wanted = values["documents"] is not None, _CANDIDATES
    if has_filter and session.scalar(_SEGMENTS, values) <= _MOST_CANDIDATES:
        wanted = known.segments * len(words)
    while True:
        chosen = candidates_of(words, shares, known.segments, wanted)
        statement = _statement(bool(chosen.alone), len(chosen.together), has_filter=has_filter)
        rows = session.execute(statement, {**values, **_sets(chosen)}).all()
        if len(rows) == limit or (
            chosen.are_all and rows and rows[0].candidates < _MOST_CANDIDATES
        ):
            found = [Match(row.segment_id, float(row.score)) for row in rows]
            return sorted(found, key=lambda one: (-one.score, one.id))
        if chosen.are_all:
            return None
        wanted *= _WIDENING


@cache
def _statement(has_words: bool, sets: int, *, has_filter: bool) -> TextClause:  # noqa: FBT001
    ways = ["k.words && CAST(:alone AS bigint[])"] if has_words else []
    ways += [f"k.words @> CAST(:set_{place} AS bigint[])" for place in range(sets)]
    candidates = f"({' OR '.join(ways)})"
    if has_filter:
        candidates = f"{candidates} {_OF_DOCUMENTS}"
    counted = _COUNTED_APART if has_filter else _COUNTED
    return text(_BY_INDEX + _BOUNDED.format(candidates=candidates, counted=counted))


def _sets(chosen: Candidates) -> dict[str, list[int]]:
    sets = {f"set_{place}": list(one) for place, one in enumerate(chosen.together)}
    return {"alone": list(chosen.alone), **sets}
