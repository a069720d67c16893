"""Pause, resume and cancel documents; a running worker notices within one batch.

Each takes the document out of the hands of whoever works on it: the next write of
that worker is refused by the fencing token, and its heartbeat tells it earlier.
With a Redis client the guard goes along, so that a new submission is not refused;
without one it runs out by itself.
"""

from collections.abc import Sequence
from uuid import UUID

from celery import Celery
from redis import Redis
from sqlalchemy import Row, select, text
from sqlalchemy.orm import Session

from shared.errors import NotFound
from shared.models import Document, DocumentStatus, UploadFile
from shared.models.document_status import IN_PROGRESS
from shared.models.vector import keeps_vectors
from shared.queueing import guard
from shared.submitting.announcing import announce, announce_sources
from shared.submitting.ids import AnyId, checked_ids

_UNFINISHED = tuple(status.value for status in (DocumentStatus.WAITING, *IN_PROGRESS))
_PAUSED = DocumentStatus.PAUSED.value
_CANCELLED = "cancelled; index it again to start over"
_TAKE = """
    UPDATE documents
    SET indexing_status = :status, is_paused = :is_paused, error = :error,
        stopped_at = statement_timestamp(), attempts = 0, deaths = 0,
        lease_token = lease_token + 1, lease_expires_at = NULL, lease_owner = NULL
    WHERE id IN (
        -- In order: two of these at once cannot deadlock.
        SELECT id FROM documents
        WHERE id = ANY(CAST(:ids AS uuid[])) AND indexing_status = ANY(:unfinished)
        ORDER BY id FOR UPDATE
    )
    RETURNING id, index_version
"""
_RESUME = text("""
    UPDATE documents
    SET indexing_status = 'waiting', is_paused = false, error = NULL, stopped_at = NULL
    WHERE id IN (
        SELECT id FROM documents
        WHERE id = ANY(CAST(:ids AS uuid[])) AND indexing_status = 'paused'
        ORDER BY id FOR UPDATE
    )
    RETURNING id, index_version
""")
_FORGET_VECTORS = text("""
    DELETE FROM segment_vectors USING documents
    WHERE documents.id = ANY(CAST(:ids AS uuid[]))
      AND segment_vectors.document_id = documents.id
      AND segment_vectors.version IS DISTINCT FROM documents.active_version
""")
_FORGET = (
    text("""
        DELETE FROM segment_keywords USING documents
        WHERE documents.id = ANY(CAST(:ids AS uuid[]))
          AND segment_keywords.document_id = documents.id
          AND segment_keywords.version IS DISTINCT FROM documents.active_version
    """),
    text("""
        DELETE FROM child_chunks USING documents
        WHERE documents.id = ANY(CAST(:ids AS uuid[]))
          AND child_chunks.document_id = documents.id
          AND child_chunks.version IS DISTINCT FROM documents.active_version
    """),
    text("""
        DELETE FROM document_segments USING documents
        WHERE documents.id = ANY(CAST(:ids AS uuid[]))
          AND document_segments.document_id = documents.id
          AND document_segments.version IS DISTINCT FROM documents.active_version
    """),
)
_RECOUNT = text("""
    UPDATE documents SET total_segments = counted.number, completed_segments = counted.completed
    FROM (
        SELECT stopped.id, count(segments.id) AS number,
               count(*) FILTER (WHERE segments.status = 'completed') AS completed
        FROM unnest(CAST(:ids AS uuid[])) AS stopped(id)
        LEFT JOIN document_segments AS segments ON segments.document_id = stopped.id
        GROUP BY stopped.id
    ) AS counted
    WHERE documents.id = counted.id
""")


def pause_documents(
    session: Session, ids: Sequence[AnyId], *, redis: "Redis | None" = None
) -> list[UUID]:
    """Hold documents that are not finished, in the caller's transaction.

    What was written of the version goes: resumed, it starts over.

    Args:
        session: the caller's.
        ids: which documents.
        redis: frees their guards.

    Returns:
        Those that are paused now; finished ones are left as they are.

    Raises:
        InvalidRequest: an id is none.
        NotFound: one of them does not exist.
    """
    return _take(session, ids, DocumentStatus.PAUSED, None, redis)


def cancel_documents(
    session: Session, ids: Sequence[AnyId], *, redis: "Redis | None" = None
) -> list[UUID]:
    """End documents that are not finished, in the caller's transaction.

    They become ``error`` with the reason; what was written of the version goes,
    a version that served goes on serving.

    Args:
        session: the caller's.
        ids: which documents.
        redis: frees their guards.

    Returns:
        Those that were cancelled; finished ones are left as they are.

    Raises:
        InvalidRequest: an id is none.
        NotFound: one of them does not exist.
    """
    return _take(session, ids, DocumentStatus.ERROR, _CANCELLED, redis)


def resume_documents(
    session: Session,
    ids: Sequence[AnyId],
    *,
    celery: Celery | None = None,
    redis: "Redis | None" = None,
    guard_seconds: int = 600,
) -> list[UUID]:
    """Let paused documents go on, in the caller's transaction.

    Args:
        session: the caller's.
        ids: which documents.
        celery: publishes right after the commit; without it a worker's relay does.
        redis: sets their guards.
        guard_seconds: life of the guards.

    Returns:
        Those that wait for a worker now.

    Raises:
        InvalidRequest: an id is none.
        NotFound: one of them does not exist.
    """
    found = require_documents(session, ids)
    resumed = session.execute(_RESUME, {"ids": list(map(str, found))}).all()
    if redis is not None:
        guard.acquire(redis, [(row.id, row.index_version) for row in resumed], guard_seconds)
    announce_waiting(session, [row.id for row in resumed], celery=celery)
    return [row.id for row in resumed]


def announce_waiting(
    session: Session,
    ids: Sequence[UUID],
    *,
    celery: Celery | None = None,
    delay_seconds: float = 0.0,
) -> None:
    """Announce documents that wait, by dataset; those that were deleted are left out.

    One whose URL was never fetched is announced to be fetched.
    """
    by_dataset: dict[tuple[UUID, UUID], list[tuple[UUID, int]]] = {}
    unfetched: dict[tuple[UUID, UUID], list[UUID]] = {}
    for row in _sizes(session, ids):
        place = (row.dataset_id, row.tenant_id)
        if row.data_source == "url" and row.size_bytes is None:
            unfetched.setdefault(place, []).append(row.id)
        else:
            by_dataset.setdefault(place, []).append((row.id, row.size_bytes or 0))
    for (dataset_id, tenant_id), documents in unfetched.items():
        announce_sources(
            session,
            dataset_id,
            documents,
            celery=celery,
            tenant_id=tenant_id,
            delay_seconds=delay_seconds,
        )
    for (dataset_id, tenant_id), sizes in by_dataset.items():
        announce(
            session,
            dataset_id,
            sizes,
            celery=celery,
            tenant_id=tenant_id,
            delay_seconds=delay_seconds,
        )


def _sizes(session: Session, ids: Sequence[UUID]) -> Sequence[Row[UUID, UUID, UUID, str, int]]:
    query = (
        select(
            Document.id,
            Document.dataset_id,
            Document.tenant_id,
            Document.data_source,
            UploadFile.size_bytes,
        )
        .outerjoin(UploadFile, UploadFile.id == Document.upload_file_id)
        .where(Document.id.in_(ids))
        .order_by(Document.dataset_id, Document.position)
    )
    return session.execute(query).all()


def _take(
    session: Session,
    ids: Sequence[AnyId],
    status: DocumentStatus,
    reason: str | None,
    redis: "Redis | None",
) -> list[UUID]:
    found = require_documents(session, ids)
    is_paused = status is DocumentStatus.PAUSED
    taken = session.execute(
        text(_TAKE),
        {
            "ids": list(map(str, found)),
            "status": status.value,
            "is_paused": is_paused,
            "error": reason,
            "unfinished": list(_UNFINISHED if is_paused else (*_UNFINISHED, _PAUSED)),
        },
    ).all()
    values = {"ids": [str(row.id) for row in taken]}
    if keeps_vectors(session.connection()):
        session.execute(_FORGET_VECTORS, values)
    for statement in (*_FORGET, _RECOUNT):
        session.execute(statement, values)
    if redis is not None:
        guard.release_all(redis, [(row.id, row.index_version) for row in taken])
    return [row.id for row in taken]


def require_documents(session: Session, ids: Sequence[AnyId]) -> list[UUID]:
    """Check that documents exist.

    Returns:
        Their ids, each once.

    Raises:
        InvalidRequest: an id is none.
        NotFound: one of them does not exist.
    """
    wanted = checked_ids("document ids", ids)
    found = set(session.scalars(select(Document.id).where(Document.id.in_(wanted))))
    missing = [str(one) for one in wanted if one not in found]
    if missing:
        raise NotFound(f"there is no document {', '.join(missing)}")
    return wanted
