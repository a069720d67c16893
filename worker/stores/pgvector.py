"""Vectors in PostgreSQL: they commit together with the rows they belong to."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import numpy as np
import orjson
from numpy.typing import NDArray
from sqlalchemy import text
from sqlalchemy.orm import Session

from worker.stores import binary_copy, pgvector_copy, pgvector_nearest
from worker.stores.pgvector_orphans import pgvector_orphans
from worker.stores.vectors import (
    Asked,
    Found,
    Orphans,
    VectorBatch,
    VectorPlace,
    VectorQuery,
    vector_id,
)

# Where COPY cannot serve: see ``PgVectorStore.upsert``.
_UPSERT = text("""
    INSERT INTO segment_vectors (
        id, dataset_id, document_id, version, generation, segment_id, embedding
    )
    SELECT u.id, :dataset_id, :document_id, :version, :generation, u.segment_id,
           u.embedding::vector
    FROM unnest(
        CAST(:ids AS uuid[]), CAST(:segment_ids AS uuid[]), CAST(:vectors AS text[])
    ) AS u(id, segment_id, embedding)
    ON CONFLICT (id) DO UPDATE SET embedding = excluded.embedding
""")

_DELETE = text("""
    DELETE FROM segment_vectors
    WHERE document_id = :document_id AND version IS DISTINCT FROM :keep
""")

_DELETE_GENERATIONS = text("""
    DELETE FROM segment_vectors WHERE id IN (
        SELECT id FROM segment_vectors
        WHERE document_id = ANY(CAST(:document_ids AS uuid[])) AND generation <> ALL(:keep)
        LIMIT :limit
    )
""")

_FETCH = text("""
    SELECT COALESCE(segment_id, id) AS id, embedding::text AS embedding
    FROM segment_vectors
    WHERE id = ANY(CAST(:ids AS uuid[]))
""")

# The vectors stay in the database: as text to the client and back they cost twenty times this.
_CARRY = text("""
    INSERT INTO segment_vectors (
        id, dataset_id, document_id, version, generation, segment_id, embedding
    )
    SELECT u.id, :dataset_id, :document_id, :version, :generation, u.segment_id, source.embedding
    FROM unnest(
        CAST(:ids AS uuid[]), CAST(:segment_ids AS uuid[]), CAST(:sources AS uuid[])
    ) AS u(id, segment_id, source)
    JOIN segment_vectors AS source ON source.id = u.source
    ON CONFLICT (id) DO UPDATE SET embedding = excluded.embedding
""")
_COUNT = text("""
    SELECT count(*) FROM segment_vectors
    WHERE document_id = :document_id AND version = :version AND generation = :generation
""")

_MISSING = text("""
    SELECT wanted.id FROM unnest(CAST(:ids AS text[])) AS wanted(id)
    WHERE NOT EXISTS (
        SELECT 1 FROM segment_vectors WHERE segment_vectors.id = CAST(wanted.id AS uuid)
    )
""")


# Of a version that serves, a few vectors mostly replace others: a COPY in vain, and an error in the
# server's log.
_LEAST_COPIED = 32


class PgVectorStore:
    """The ``VectorStore`` over the pgvector extension; large datasets have an index each."""

    name = "pgvector"
    is_external = False

    def check(self) -> None:
        """Nothing: whoever has a session has it."""

    def send(self, batch: VectorBatch) -> None:
        """Nothing: ``upsert`` writes, with the rows."""

    def upsert(self, session: Session, *batches: VectorBatch) -> None:
        """Write batches in the caller's transaction.

        By COPY, which is five times as fast for many, where it replaces no row.
        """
        are_new = all(batch.place.is_whole for batch in batches)
        are_many = sum(len(batch.ids) for batch in batches) >= _LEAST_COPIED
        can_copy = binary_copy.is_possible(session) and (are_new or are_many)
        if can_copy and pgvector_copy.copied(session.connection(), batches):
            return
        for batch in batches:
            values = _columns(batch.place, batch.ids)
            values["vectors"] = [_literal(vector) for vector in batch.vectors]
            session.execute(_UPSERT, values)

    def activate(self, session: Session, place: VectorPlace) -> None:
        """Nothing: search goes by the document's active version."""

    def delete_other_versions(self, session: Session, document_id: UUID, keep: int | None) -> None:
        """Delete the document's vectors of every version but ``keep``, of every generation."""
        session.execute(_DELETE, {"document_id": document_id, "keep": keep})

    def delete_other_generations(
        self, session: Session, document_ids: Sequence[UUID], keep: Sequence[int], limit: int
    ) -> int:
        """Delete at most ``limit`` of the documents' vectors of any generation but ``keep``."""
        values = {"document_ids": list(map(str, document_ids)), "keep": list(keep), "limit": limit}
        deleted: Any = session.connection().execute(_DELETE_GENERATIONS, values)
        return int(deleted.rowcount)

    def fetch(
        self,
        session: Session,
        document_id: UUID,  # noqa: ARG002 - the ids say it all here
        version: int,  # noqa: ARG002
        generation: int,
        ids: Sequence[UUID],
    ) -> dict[UUID, NDArray[np.float32]]:
        """The vectors of these segments, those that exist."""
        wanted = {"ids": [str(vector_id(generation, one)) for one in ids]}
        rows = session.execute(_FETCH, wanted)
        return {row.id: np.array(orjson.loads(row.embedding), np.float32) for row in rows}

    def carry(self, session: Session, place: VectorPlace, sources: Mapping[UUID, UUID]) -> int:
        """Copy vectors in one statement of the caller's transaction."""
        values = _columns(place, list(sources))
        values["sources"] = [str(vector_id(place.generation, one)) for one in sources.values()]
        copied: Any = session.connection().execute(_CARRY, values)
        return int(copied.rowcount)

    def count(self, session: Session, document_id: UUID, version: int, generation: int) -> int:
        """How many vectors an active version of a document has in an index."""
        values = {"document_id": document_id, "version": version, "generation": generation}
        return int(session.execute(_COUNT, values).scalar_one())

    def missing(
        self,
        session: Session,
        document_id: UUID,  # noqa: ARG002 - the ids say it all here
        version: int,  # noqa: ARG002
        generation: int,
        ids: Sequence[UUID],
    ) -> set[UUID]:
        """Those of these segments that have no vector."""
        by_vector = {str(vector_id(generation, one)): one for one in ids}
        return {by_vector[one] for one in session.scalars(_MISSING, {"ids": list(by_vector)})}

    def orphans(self, session: Session, after: str | None, *, deletes: bool) -> Orphans:
        """Find vectors that no row stands for, those of a few documents at a time."""
        return pgvector_orphans(session, after, deletes=deletes)

    def ask(self, query: VectorQuery, again: Asked | None = None) -> Asked:  # noqa: ARG002
        """Nothing: ``search`` asks, in its transaction."""
        return Asked()

    def search(self, session: Session, query: VectorQuery, asked: Asked) -> Found:  # noqa: ARG002
        """The nearest segments of an index, best first."""
        values = {
            "dataset_id": query.dataset_id,
            "generation": query.generation,
            "query": _literal(query.vector),
            "limit": query.limit,
            "documents": [str(one) for one in query.documents or ()],
        }
        matches = pgvector_nearest.approximate(session, query, values)
        if matches is None:
            matches = pgvector_nearest.exact(session, query, values)
        return Found(matches)

    def collect(self) -> int:
        """Nothing: rows go with their transactions."""
        return 0


def _columns(place: VectorPlace, segments: Sequence[UUID]) -> dict[str, Any]:
    ids = [str(segment_id) for segment_id in segments]
    segment_ids: list[str | None] = [None] * len(ids)
    if place.generation:
        segment_ids = [*ids]
        ids = [str(vector_id(place.generation, one)) for one in segments]
    return {
        "dataset_id": place.dataset_id,
        "document_id": place.document_id,
        "version": place.version,
        "generation": place.generation,
        "ids": ids,
        "segment_ids": segment_ids,
    }


def _literal(vector: NDArray[np.float32]) -> str:
    """A JSON array of numbers is pgvector's text form."""
    return orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY).decode()
