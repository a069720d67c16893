"""Vectors in PostgreSQL: they commit together with the rows they belong to."""

from collections.abc import Sequence
from uuid import UUID

import numpy as np
import orjson
from numpy.typing import NDArray
from sqlalchemy import text
from sqlalchemy.orm import Session

from worker.stores.vectors import Match, VectorBatch

# Arrays through unnest and not COPY: psycogreen's wait callback breaks psycopg2's COPY,
# and one path serves every pool.
_UPSERT = text("""
    INSERT INTO segment_vectors (id, dataset_id, document_id, version, embedding)
    SELECT u.id, :dataset_id, :document_id, :version, u.embedding::vector
    FROM unnest(CAST(:ids AS uuid[]), CAST(:vectors AS text[])) AS u(id, embedding)
    ON CONFLICT (id) DO UPDATE SET embedding = excluded.embedding
""")

_DELETE = text("""
    DELETE FROM segment_vectors
    WHERE document_id = :document_id AND version IS DISTINCT FROM :keep
""")

_FETCH = text("""
    SELECT id, embedding::text AS embedding
    FROM segment_vectors
    WHERE id = ANY(CAST(:ids AS uuid[]))
""")

# The inner product of unit vectors is the cosine; <#> is its negative. Selected as it is sorted
# by: any other form of it would make the sort carry the vectors, a kilobyte a row. The disabled
# segments are few and have an index: a join with every segment's row would cost most of the time.
_SELECT = """
    SELECT v.id, v.embedding <#> CAST(:query AS vector) AS distance
    FROM segment_vectors v
    JOIN documents d ON d.id = v.document_id AND d.active_version = v.version
    WHERE d.dataset_id = :dataset_id AND d.enabled AND NOT d.archived
      AND v.id NOT IN (
          SELECT id FROM document_segments WHERE dataset_id = :dataset_id AND NOT enabled
      )
"""
_NEAREST = """
    ORDER BY distance
    LIMIT :limit
"""
_SEARCH = text(_SELECT + _NEAREST)
_SEARCH_DOCUMENTS = text(_SELECT + "AND d.id = ANY(CAST(:documents AS uuid[]))" + _NEAREST)


class PgVectorStore:
    """The ``VectorStore`` over the pgvector extension; exact search."""

    def upsert(self, session: Session, batch: VectorBatch) -> None:
        """Write a batch in one statement of the caller's transaction."""
        session.execute(
            _UPSERT,
            {
                "dataset_id": batch.dataset_id,
                "document_id": batch.document_id,
                "version": batch.version,
                "ids": [str(segment_id) for segment_id in batch.ids],
                "vectors": [_literal(vector) for vector in batch.vectors],
            },
        )

    def delete_other_versions(self, session: Session, document_id: UUID, keep: int | None) -> None:
        """Delete the document's vectors of every version but ``keep``."""
        session.execute(_DELETE, {"document_id": document_id, "keep": keep})

    def fetch(self, session: Session, ids: Sequence[UUID]) -> dict[UUID, NDArray[np.float32]]:
        """The vectors of these segments, those that exist."""
        rows = session.execute(_FETCH, {"ids": [str(one) for one in ids]})
        return {row.id: np.array(orjson.loads(row.embedding), np.float32) for row in rows}

    def search(
        self,
        session: Session,
        dataset_id: UUID,
        query: NDArray[np.float32],
        limit: int,
        *,
        documents: Sequence[UUID] | None = None,
    ) -> list[Match]:
        """The nearest segments of a dataset, or of ``documents`` of it, best first."""
        rows = session.execute(
            _SEARCH if documents is None else _SEARCH_DOCUMENTS,
            {
                "dataset_id": dataset_id,
                "query": _literal(query),
                "limit": limit,
                "documents": None if documents is None else [str(one) for one in documents],
            },
        )
        return [Match(row.id, -float(row.distance)) for row in rows]


def _literal(vector: NDArray[np.float32]) -> str:
    """A JSON array of numbers is pgvector's text form."""
    return orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY).decode()
