"""The ledger's fine print: vectors that do not count, or go, with the whole of their write.

A segment changed by hand has its vector in a write of its own, while the others of its
version stay where they are. So the vectors of such writes have rows, one each, and so has
each vector of another write that one of them replaces, or whose segment was deleted.
"""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import bindparam, select, text
from sqlalchemy.orm import Session

from shared.models import VectorPoint

# Deleted already, because the lease was lost meanwhile: it is deleted again.
_NOTE = text("""
    INSERT INTO vector_points (vector_id, write_id, is_current)
    SELECT vector_id, :write_id, false FROM unnest(CAST(:ids AS uuid[])) AS u(vector_id)
    ON CONFLICT (vector_id, write_id) DO UPDATE SET swept_at = NULL
    WHERE vector_points.swept_at IS NOT NULL
""")
_SERVE = text("""
    UPDATE vector_points SET is_current = true
    WHERE write_id = :write_id AND vector_id = ANY(CAST(:ids AS uuid[]))
""")
_OUTDATED = select(VectorPoint.vector_id, VectorPoint.write_id).where(
    VectorPoint.vector_id.in_(bindparam("ids", expanding=True)),
    VectorPoint.write_id.in_(bindparam("writes", expanding=True)),
    VectorPoint.is_current.is_(False),
)
_LOCATE = text("""
    SELECT point.vector_id, w.id AS write_id, w.dimension
    FROM vector_points AS point JOIN vector_writes AS w ON w.id = point.write_id
    WHERE point.vector_id = ANY(CAST(:ids AS uuid[])) AND point.is_current AND w.is_live
      AND w.document_id = :document_id AND w.version = :version AND w.generation = :generation
    UNION ALL
    SELECT u.vector_id, w.id, w.dimension
    FROM vector_writes AS w CROSS JOIN unnest(CAST(:ids AS uuid[])) AS u(vector_id)
    WHERE w.document_id = :document_id AND w.version = :version AND w.generation = :generation
      AND w.is_live AND w.is_whole
      AND NOT EXISTS (
          SELECT 1 FROM vector_points AS point
          WHERE point.vector_id = u.vector_id AND point.write_id = w.id
      )
""")
# Those of a write that does not count go with it.
_UNUSED = text("""
    SELECT point.write_id, point.vector_id, w.dimension, point.swept_at IS NOT NULL AS is_second
    FROM vector_points AS point JOIN vector_writes AS w ON w.id = point.write_id
    WHERE NOT point.is_current AND w.is_live AND w.document_id IS NOT NULL
      AND (point.swept_at IS NULL
           OR point.swept_at < now() - make_interval(secs => :again_seconds))
      -- The next rows of an import are on their way to a write that counts already.
      AND NOT EXISTS (
          SELECT 1 FROM segment_imports AS holder
          WHERE holder.id = w.holder_id AND holder.lease_token = w.token
            AND holder.lease_expires_at IS NOT NULL
      )
    ORDER BY point.swept_at NULLS FIRST, point.write_id, point.vector_id
    LIMIT :limit
""")
_SWEPT = text("""
    UPDATE vector_points AS point SET swept_at = now()
    FROM unnest(CAST(:ids AS uuid[]), CAST(:writes AS uuid[])) AS u(vector_id, write_id)
    WHERE point.vector_id = u.vector_id AND point.write_id = u.write_id
""")
_FORGET = text("""
    DELETE FROM vector_points AS point
    USING unnest(CAST(:ids AS uuid[]), CAST(:writes AS uuid[])) AS u(vector_id, write_id)
    WHERE point.vector_id = u.vector_id AND point.write_id = u.write_id
""")


class Unused(NamedTuple):
    """A vector that nothing needs; ``is_second`` when it was deleted before."""

    write_id: UUID
    vector_id: UUID
    dimension: int
    is_second: bool


class Located(NamedTuple):
    """The write that holds a segment's vector."""

    vector_id: UUID
    write_id: UUID
    dimension: int


def note(session: Session, write_id: UUID, ids: Sequence[UUID]) -> None:
    """Note, before they are sent, vectors that a write by hand sends; again is harmless."""
    session.execute(_NOTE, {"write_id": write_id, "ids": list(map(str, ids))})


def serve(session: Session, write_id: UUID, ids: Sequence[UUID]) -> None:
    """Let these vectors be their segments' from this transaction on."""
    session.execute(_SERVE, {"write_id": write_id, "ids": list(map(str, ids))})


def outdated(
    session: Session, writes: Sequence[UUID], ids: Sequence[UUID]
) -> set[tuple[UUID, UUID]]:
    """Which vectors of these writes are not their segments', as (segment or child, write)."""
    rows = session.execute(_OUTDATED, {"writes": writes, "ids": ids})
    return {(row.vector_id, row.write_id) for row in rows}


def locate(
    session: Session, document_id: UUID, version: int, generation: int, ids: Sequence[UUID]
) -> list[Located]:
    """Where the vectors of segments of a version are, if they exist."""
    values = {
        "document_id": document_id,
        "version": version,
        "generation": generation,
        "ids": list(map(str, ids)),
    }
    return [Located(*row) for row in session.execute(_LOCATE, values)]


def unused(session: Session, again_seconds: float, limit: int) -> list[Unused]:
    """Vectors that no segment has, of writes that count."""
    values = {"again_seconds": again_seconds, "limit": limit}
    return [Unused(*row) for row in session.execute(_UNUSED, values)]


def swept(session: Session, points: Sequence[Unused]) -> None:
    """Note which were deleted; after the second time the row goes."""
    for statement, is_second in ((_SWEPT, False), (_FORGET, True)):
        chosen = [one for one in points if one.is_second is is_second]
        ids = [str(one.vector_id) for one in chosen]
        session.execute(statement, {"ids": ids, "writes": [str(one.write_id) for one in chosen]})
