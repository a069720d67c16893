"""Pause, resume and cancel documents; a running worker notices within one batch.

Each takes the document out of the hands of whoever works on it: the next write of
that worker is refused by the fencing token, and its heartbeat tells it earlier.
"""

from collections.abc import Sequence
from uuid import UUID

from celery import Celery
from sqlalchemy import Row, select, text
from sqlalchemy.orm import Session

from shared.errors import NotFound
from shared.models import Document, DocumentStatus, UploadFile
from shared.models.document_status import IN_PROGRESS
from shared.submitting.announcing import announce

_UNFINISHED = (DocumentStatus.WAITING, *IN_PROGRESS)
_TAKE = """
    UPDATE documents
    SET indexing_status = :status, is_paused = :is_paused, error = :error,
        stopped_at = statement_timestamp(), attempts = :attempts, deaths = 0,
        lease_token = lease_token + 1, lease_expires_at = NULL, lease_owner = NULL
    WHERE id = ANY(CAST(:ids AS uuid[])) AND indexing_status = ANY(:unfinished)
    RETURNING id
"""
_FORGET = (
    text("""
        DELETE FROM segment_vectors USING documents
        WHERE documents.id = ANY(CAST(:ids AS uuid[]))
          AND segment_vectors.document_id = documents.id
          AND segment_vectors.version IS DISTINCT FROM documents.active_version
    """),
    text("""
        DELETE FROM document_segments USING documents
        WHERE documents.id = ANY(CAST(:ids AS uuid[]))
          AND document_segments.document_id = documents.id
          AND document_segments.version IS DISTINCT FROM documents.active_version
    """),
)
_RECOUNT = text("""
    UPDATE documents SET total_segments = counted.number, completed_segments = counted.number
    FROM (
        SELECT stopped.id, count(segments.id) AS number
        FROM unnest(CAST(:ids AS uuid[])) AS stopped(id)
        LEFT JOIN document_segments AS segments ON segments.document_id = stopped.id
        GROUP BY stopped.id
    ) AS counted
    WHERE documents.id = counted.id
""")


def pause_documents(session: Session, ids: Sequence[UUID]) -> list[UUID]:
    """Hold documents that are not finished, in the caller's transaction.

    Returns:
        Those that are paused now; finished ones are left as they are.

    Raises:
        NotFound: one of them does not exist.
    """
    return _take(session, ids, DocumentStatus.PAUSED, "paused", _UNFINISHED)


def cancel_documents(session: Session, ids: Sequence[UUID]) -> list[UUID]:
    """End documents that are not finished, in the caller's transaction.

    They become ``error`` with the reason; what was written of the version goes,
    a version that served goes on serving.

    Returns:
        Those that were cancelled.

    Raises:
        NotFound: one of them does not exist.
    """
    return _take(
        session,
        ids,
        DocumentStatus.ERROR,
        "cancelled; index it again to start over",
        (*_UNFINISHED, DocumentStatus.PAUSED),
    )


def resume_documents(
    session: Session, ids: Sequence[UUID], *, celery: Celery | None = None
) -> list[UUID]:
    """Let paused documents go on, in the caller's transaction.

    Returns:
        Those that wait for a worker now.

    Raises:
        NotFound: one of them does not exist.
    """
    _require_all(session, ids)
    resumed = session.scalars(
        text("""
            UPDATE documents SET indexing_status = 'waiting', is_paused = false, error = NULL,
                   stopped_at = NULL
            WHERE id = ANY(CAST(:ids AS uuid[])) AND indexing_status = 'paused'
            RETURNING id
        """),
        {"ids": list(map(str, ids))},
    ).all()
    announce_waiting(session, list(resumed), celery=celery)
    return list(resumed)


def announce_waiting(
    session: Session,
    ids: Sequence[UUID],
    *,
    celery: Celery | None = None,
    delay_seconds: float = 0.0,
) -> None:
    """Announce documents that wait, by dataset; those that were deleted are left out."""
    by_dataset: dict[tuple[UUID, UUID], list[tuple[UUID, int]]] = {}
    for row in _sizes(session, ids):
        known = by_dataset.setdefault((row.dataset_id, row.tenant_id), [])
        known.append((row.id, row.size_bytes or 0))
    for (dataset_id, tenant_id), sizes in by_dataset.items():
        announce(
            session,
            dataset_id,
            sizes,
            celery=celery,
            tenant_id=tenant_id,
            delay_seconds=delay_seconds,
        )


def _sizes(session: Session, ids: Sequence[UUID]) -> Sequence[Row[UUID, UUID, UUID, int]]:
    query = (
        select(Document.id, Document.dataset_id, Document.tenant_id, UploadFile.size_bytes)
        .outerjoin(UploadFile, UploadFile.id == Document.upload_file_id)
        .where(Document.id.in_(ids))
        .order_by(Document.dataset_id, Document.position)
    )
    return session.execute(query).all()


def _take(
    session: Session,
    ids: Sequence[UUID],
    status: DocumentStatus,
    reason: str,
    unfinished: Sequence[DocumentStatus],
) -> list[UUID]:
    _require_all(session, ids)
    is_paused = status is DocumentStatus.PAUSED
    taken = list(
        session.scalars(
            text(_TAKE),
            {
                "ids": list(map(str, ids)),
                "status": status.value,
                "is_paused": is_paused,
                "error": None if is_paused else reason,
                "attempts": 0,
                "unfinished": [one.value for one in unfinished],
            },
        )
    )
    values = {"ids": list(map(str, taken))}
    for statement in _FORGET:
        session.execute(statement, values)
    session.execute(_RECOUNT, values)
    return taken


def _require_all(session: Session, ids: Sequence[UUID]) -> None:
    found = set(session.scalars(select(Document.id).where(Document.id.in_(ids))))
    missing = [str(one) for one in ids if one not in found]
    if missing:
        raise NotFound(f"there is no document {', '.join(missing)}")
