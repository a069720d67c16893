"""Documents are shown to search or hidden from it; what they hold stays as it is.

The row's flag is what search goes by, inside its query: it counts from the commit on.
The messages are for those who follow what happens; they change nothing by themselves,
so that one which comes late cannot undo a later wish.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from celery import Celery
from redis import Redis
from sqlalchemy import and_, func, not_, select, update
from sqlalchemy.orm import Session

from shared.contract import ADD_DOCUMENT_TO_INDEX, REMOVE_DOCUMENT_FROM_INDEX
from shared.errors import InvalidRequest
from shared.models import Document
from shared.queueing import outbox
from shared.submitting.control import require_documents
from shared.submitting.ids import AnyId, checked_ids
from shared.submitting.reindexing import require_unguarded


def enable_documents(
    session: Session,
    ids: Sequence[AnyId],
    *,
    celery: Celery | None = None,
    redis: "Redis | None" = None,
) -> list[UUID]:
    """Let search find documents again, in the caller's transaction; nothing is embedded for it.

    Args:
        session: the caller's.
        ids: which documents.
        celery: publishes right after the commit; without it a worker's relay does.
        redis: looks whether one is being indexed.

    Returns:
        Those that were disabled until now.

    Raises:
        NotFound: one of them does not exist.
        InvalidRequest: one of them is archived, or an id is none.
        DocumentIndexingInProgress: one of them is being indexed.
    """
    _require_none_archived(session, ids)
    change = {"enabled": True, "disabled_at": None, "changed_at": func.statement_timestamp()}
    return _change(session, ids, change, celery=celery, redis=redis)


def disable_documents(
    session: Session,
    ids: Sequence[AnyId],
    *,
    celery: Celery | None = None,
    redis: "Redis | None" = None,
) -> list[UUID]:
    """Hide documents from search, in the caller's transaction.

    Returns:
        Those that were enabled until now.

    Raises:
        NotFound: one of them does not exist.
        InvalidRequest: one of them is archived, or an id is none.
        DocumentIndexingInProgress: one of them is being indexed.
    """
    _require_none_archived(session, ids)
    change = {"enabled": False, "disabled_at": func.statement_timestamp()}
    return _change(session, ids, change, celery=celery, redis=redis)


def archive_documents(
    session: Session,
    ids: Sequence[AnyId],
    *,
    celery: Celery | None = None,
    redis: "Redis | None" = None,
) -> list[UUID]:
    """Put documents away, in the caller's transaction: search does not see them.

    Returns:
        Those that were not archived until now.

    Raises:
        InvalidRequest: an id is none.
        NotFound: one of them does not exist.
        DocumentIndexingInProgress: one of them is being indexed.
    """
    return _change(session, ids, {"archived": True}, celery=celery, redis=redis)


def unarchive_documents(
    session: Session,
    ids: Sequence[AnyId],
    *,
    celery: Celery | None = None,
    redis: "Redis | None" = None,
) -> list[UUID]:
    """Take documents out of the archive, in the caller's transaction.

    Search sees those that are enabled.

    Returns:
        Those that were archived until now.

    Raises:
        InvalidRequest: an id is none.
        NotFound: one of them does not exist.
        DocumentIndexingInProgress: one of them is being indexed.
    """
    return _change(session, ids, {"archived": False}, celery=celery, redis=redis)


def _require_none_archived(session: Session, ids: Sequence[AnyId]) -> None:
    wanted = checked_ids("document ids", ids)
    query = select(Document.id).where(Document.id.in_(wanted), Document.archived).limit(1)
    archived = session.scalar(query)
    if archived is not None:
        raise InvalidRequest(f"document {archived} is archived: unarchive it first")


def _change(
    session: Session,
    ids: Sequence[AnyId],
    change: dict[str, Any],
    *,
    celery: Celery | None,
    redis: "Redis | None",
) -> list[UUID]:
    found = require_documents(session, ids)
    require_unguarded(redis, found)
    flag = next(iter(change))
    # In order: two of these at once cannot deadlock.
    locked = (
        select(Document.id).where(Document.id.in_(found)).order_by(Document.id).with_for_update()
    )
    changed = session.connection().execute(
        update(Document)
        .where(Document.id.in_(locked), getattr(Document, flag) != change[flag])
        .values(change)
        .returning(
            Document.id,
            Document.tenant_id,
            and_(Document.enabled, not_(Document.archived)).label("is_shown"),
        )
    )
    rows = changed.all()
    for row in rows:
        task = ADD_DOCUMENT_TO_INDEX if row.is_shown else REMOVE_DOCUMENT_FROM_INDEX
        outbox.write(session, task.name, [str(row.id)], celery=celery, tenant_id=row.tenant_id)
    return [row.id for row in rows]
