"""The nearest vectors of a dataset: exactly, or by its index where it has one."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import TextClause, text
from sqlalchemy.orm import Session

from worker.stores.pgvector_indexes import usable_dimension
from worker.stores.vectors import Match, VectorQuery

#: Candidates that the index holds at once: more find better and take longer. pgvector allows
#: 1,000. Of a million crowded vectors, 100 of them found 0.55 of the ten nearest and 400 found
#: 0.66, at much the same time: docs/performance-vectors.md.
_LEAST_CANDIDATES = 400
_CANDIDATES_A_MATCH = 3
_MOST_CANDIDATES = 1000

#: Vectors of documents that a filter leaves: so few are faster read than searched for.
_FEW_VECTORS = 20_000

# What counts: active versions of enabled documents, enabled segments. The disabled segments are
# few and have an index: a join with every segment's row would cost most of the time.
COUNTING = """
    FROM segment_vectors v
    JOIN documents d ON d.id = v.document_id AND d.active_version = v.version
    WHERE d.dataset_id = :dataset_id AND d.enabled AND NOT d.archived
      AND v.generation = :generation
      AND NOT EXISTS (
          SELECT FROM document_segments s
          WHERE s.dataset_id = :dataset_id AND s.id = COALESCE(v.segment_id, v.id)
            AND NOT s.enabled
      )
"""
# The inner product of unit vectors is the cosine; <#> is its negative. Selected as it is sorted
# by: any other form of it would make the sort carry the vectors, a kilobyte a row.
SELECT = """
    SELECT COALESCE(v.segment_id, v.id) AS id, v.embedding <#> CAST(:query AS vector) AS distance
"""
_OF_DOCUMENTS = "AND d.id = ANY(CAST(:documents AS uuid[]))"
_NEAREST = """
    ORDER BY distance
    LIMIT :limit
"""
_EXACT = text(SELECT + COUNTING + _NEAREST)
_EXACT_OF_DOCUMENTS = text(SELECT + COUNTING + _OF_DOCUMENTS + _NEAREST)
# One round trip. Iterative: what does not count takes no place of what does.
SCAN = """
    SET LOCAL hnsw.ef_search = :candidates;
    SET LOCAL hnsw.iterative_scan = strict_order;
"""
# As the index has it, word by word: without its condition and its expression it is not used.
BY_INDEX = """
    AND v.dataset_id = :dataset_id
    ORDER BY CAST(v.embedding AS halfvec(:dimension)) <#> CAST(:query AS halfvec(:dimension))
    LIMIT :limit
"""
_APPROXIMATE = text(SCAN + SELECT + COUNTING + BY_INDEX)
_APPROXIMATE_OF_DOCUMENTS = text(SCAN + SELECT + COUNTING + _OF_DOCUMENTS + BY_INDEX)
_SEGMENTS = text("""
    SELECT coalesce(sum(total_segments), 0) FROM documents
    WHERE id = ANY(CAST(:documents AS uuid[]))
""")


def exact(session: Session, query: VectorQuery, values: Mapping[str, Any]) -> list[Match]:
    """The nearest of all vectors that count, best first."""
    return _matches(session, _EXACT if query.documents is None else _EXACT_OF_DOCUMENTS, values)


def approximate(
    session: Session, query: VectorQuery, values: Mapping[str, Any]
) -> list[Match] | None:
    """What the dataset's index finds, best first.

    ``None`` where the vectors have to be read: there is no index, a filter leaves few
    vectors, or the index does not give as many as are asked for.
    """
    dimension = usable_dimension(session, query.dataset_id, query.generation)
    if dimension is None or dimension != len(query.vector):
        return None
    if query.documents is not None and session.scalar(_SEGMENTS, values) < _FEW_VECTORS:
        return None
    statement = _APPROXIMATE if query.documents is None else _APPROXIMATE_OF_DOCUMENTS
    scan = {**values, "candidates": candidates_for(query.limit), "dimension": dimension}
    matches = _matches(session, statement, scan)
    if len(matches) < query.limit:
        return None
    # Nearly in order: the index compares with half the precision.
    return sorted(matches, key=lambda one: -one.score)


def candidates_for(limit: int) -> int:
    """How many candidates the index holds at once for so many matches."""
    return min(max(_LEAST_CANDIDATES, _CANDIDATES_A_MATCH * limit), _MOST_CANDIDATES)


def _matches(session: Session, statement: TextClause, values: Mapping[str, Any]) -> list[Match]:
    return [Match(row.id, -float(row.distance)) for row in session.execute(statement, values)]
