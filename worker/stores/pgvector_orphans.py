"""Vectors in PostgreSQL that no row stands for: what a restored table, or a hand, left."""

from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from worker.stores.vectors import Orphans

_DOCUMENTS = 100
_NOBODY = UUID(int=0)

# One probe of the index a document, however many vectors it has.
_PAGE = text("""
    WITH RECURSIVE found AS (
        (SELECT document_id FROM segment_vectors WHERE document_id > :after
         ORDER BY document_id LIMIT 1)
        UNION ALL
        SELECT following.document_id FROM found, LATERAL (
            SELECT document_id FROM segment_vectors WHERE document_id > found.document_id
            ORDER BY document_id LIMIT 1
        ) AS following
    )
    SELECT document_id FROM found LIMIT :limit
""")
# Of a document that is gone, unless its clean-up is under way; of a version that is neither
# served nor being made; of a segment or child that is gone from the version that serves.
_ARE_ORPHANS = """
    document_id = ANY(CAST(:documents AS uuid[])) AND (
        NOT EXISTS (SELECT 1 FROM documents WHERE documents.id = document_id)
        AND NOT EXISTS (
            SELECT 1 FROM removals WHERE removals.document_id = segment_vectors.document_id
        )
        OR EXISTS (
            SELECT 1 FROM documents WHERE documents.id = document_id
              AND version <> index_version AND version IS DISTINCT FROM active_version
        )
        OR EXISTS (
            SELECT 1 FROM documents WHERE documents.id = document_id
              AND version = active_version AND indexing_status = 'completed'
              AND documents.lease_expires_at IS NULL
        )
        AND NOT EXISTS (
            SELECT 1 FROM document_segments AS segment
            WHERE segment.id = coalesce(segment_vectors.segment_id, segment_vectors.id)
        )
        AND NOT EXISTS (
            SELECT 1 FROM child_chunks AS child
            WHERE child.id = coalesce(segment_vectors.segment_id, segment_vectors.id)
        )
    )
"""
_DELETE = text(f"DELETE FROM segment_vectors WHERE {_ARE_ORPHANS}")  # noqa: S608 - no input in it
_COUNT = text(f"SELECT count(*) FROM segment_vectors WHERE {_ARE_ORPHANS}")  # noqa: S608


def pgvector_orphans(session: Session, after: str | None, *, deletes: bool) -> Orphans:
    """Look at the vectors of a hundred documents."""
    values = {"after": UUID(after) if after else _NOBODY, "limit": _DOCUMENTS}
    page = [str(one) for one in session.scalars(_PAGE, values)]
    number = 0
    if page and deletes:
        done: Any = session.execute(_DELETE, {"documents": page})
        number = int(done.rowcount)
    elif page:
        number = int(session.scalar(_COUNT, {"documents": page}) or 0)
    return Orphans(number, page[-1] if len(page) == _DOCUMENTS else None)
