"""The transactional outbox: a message that exists exactly if its transaction committed.

Source of the pattern: C. Richardson, "Microservices Patterns", 2018, chapter 3.
A message is a row, written in the caller's session with whatever else that
session writes. After the commit the same process publishes it; what a process
that died, or a broker that was away, left behind, the relay publishes.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID, uuid4

from celery import Celery
from celery.exceptions import QueueNotFound
from sqlalchemy import event, func, select
from sqlalchemy.orm import Session, SessionTransaction, scoped_session

from shared.contract import QUEUES, TASKS
from shared.errors import InvalidRequest
from shared.models import NO_TENANT, Dataset, OutboxMessage
from shared.queueing import trace_context
from shared.queueing.publishing import Bounds, plain_json, publish_own, wake_relays

logger = logging.getLogger(__name__)

#: What a session remembers.
_WATCHED, _WRITTEN, _COMMITTED = "outbox.watched", "outbox.written", "outbox.committed"
_CELERY = "outbox.celery"
_CONTRACTS = {task.name: task for task in TASKS}


def write(
    session: "Session | scoped_session[Any]",
    task: str,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    celery: Celery | None = None,
    tenant_id: UUID | None = None,
    priority: int = 0,
    delay_seconds: float = 0.0,
) -> UUID:
    """Write a message in the caller's transaction.

    Args:
        session: any SQLAlchemy session on rag-worker's database; commit it as usual.
        task: the task's name.
        args: ids, never content; anything Celery's JSON can say.
        kwargs: the same by name.
        celery: publishes right after the commit; without one the relay of a
            worker does, a moment later.
        tenant_id: whose message it is; taken from the dataset when the task's
            first argument is one.
        priority: higher goes first.
        delay_seconds: published no earlier than this after now.

    Returns:
        The message's id, which is the task's id too.

    Raises:
        InvalidRequest: the task is routed to a queue nobody serves, or its arguments
            are nothing that JSON can say.
    """
    opened: Session = session() if isinstance(session, scoped_session) else session
    message = OutboxMessage(
        id=uuid4(),
        tenant_id=tenant_id,
        task=task,
        queue=_queue_of(task, celery),
        args=_as_json(task, list(args)),
        kwargs=_as_json(task, dict(kwargs or {})),
        priority=priority,
        headers=trace_context.carried() or None,
    )
    if delay_seconds > 0:
        message.available_at = func.now() + func.make_interval(0, 0, 0, 0, 0, 0, delay_seconds)
    _watch(opened)
    if celery is not None:
        opened.info[_CELERY] = celery
    opened.add(message)
    return message.id


def _queue_of(task: str, celery: Celery | None) -> str:
    contract = _CONTRACTS.get(task)
    if contract is not None:
        return contract.queue
    if celery is None:
        return QUEUES[0]
    declared = getattr(celery.tasks.get(task), "queue", None)
    try:
        route = celery.amqp.router.route({"queue": declared} if declared else {}, task)
        queue = str(route["queue"].name)
    except QueueNotFound as error:
        raise InvalidRequest(f"{task}: {error}; there are: {', '.join(QUEUES)}") from error
    if queue not in QUEUES:
        raise InvalidRequest(f"{task}: nobody serves {queue}; there are: {', '.join(QUEUES)}")
    return queue


def _as_json(task: str, value: Any) -> Any:
    try:
        plain = plain_json(value)
        # What PostgreSQL's jsonb cannot hold must not break the caller's commit.
        json.dumps(plain, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(
            f"{task}: a message carries ids in JSON, this is not: {error}"
        ) from error
    if _has_nul(plain):
        raise InvalidRequest(f"{task}: a message carries ids in JSON, without a NUL character")
    return plain


def _has_nul(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_nul(one) for pair in value.items() for one in pair)
    if isinstance(value, list):
        return any(map(_has_nul, value))
    return isinstance(value, str) and "\0" in value


def _watch(session: Session) -> None:
    if session.info.get(_WATCHED):
        return
    session.info[_WATCHED] = True
    event.listen(session, "before_flush", _before_flush)
    event.listen(session, "after_flush", _after_flush)
    event.listen(session, "before_commit", _before_commit)
    event.listen(session, "after_commit", _after_commit)
    event.listen(session, "after_rollback", _after_rollback)
    event.listen(session, "after_transaction_end", _after_transaction_end)


def _before_flush(session: Session, *_: Any) -> None:
    unowned = [
        one for one in session.new if isinstance(one, OutboxMessage) and one.tenant_id is None
    ]
    if not unowned:
        return
    datasets = {one.id: _dataset_of(one) for one in unowned}
    wanted = {dataset for dataset in datasets.values() if dataset is not None}
    owners: dict[UUID, UUID] = {}
    if wanted:
        query = select(Dataset.id, Dataset.tenant_id).where(Dataset.id.in_(wanted))
        # On the connection: the session is in the middle of a flush.
        owners = {row.id: row.tenant_id for row in session.connection().execute(query)}
        owners |= {
            one.id: one.tenant_id for one in session.new if isinstance(one, Dataset) and one.id
        }
    for one in unowned:
        dataset = datasets[one.id]
        one.tenant_id = owners.get(dataset, NO_TENANT) if dataset else NO_TENANT


def _dataset_of(message: OutboxMessage) -> UUID | None:
    contract = _CONTRACTS.get(message.task)
    if contract is None or contract.ids[:1] != ("dataset_id",):
        return None
    value = message.args[0] if message.args else message.kwargs.get("dataset_id")
    try:
        return UUID(value)
    except (ValueError, TypeError, AttributeError):
        return None  # the task itself will say what is wrong with it


def _after_flush(session: Session, *_: Any) -> None:
    written = [one.id for one in session.new if isinstance(one, OutboxMessage)]
    if written:
        session.info.setdefault(_WRITTEN, []).extend(written)


def _before_commit(session: Session) -> None:
    if session.in_nested_transaction():
        return
    session.flush()
    if session.info.get(_WRITTEN) and _CELERY not in session.info:
        wake_relays(session.connection())


def _after_commit(session: Session) -> None:
    if not session.in_nested_transaction():
        session.info[_COMMITTED] = True


def _after_rollback(session: Session) -> None:
    # A savepoint's rollback takes its rows along: publishing looks for rows, not for ids.
    if not session.in_nested_transaction():
        session.info.pop(_WRITTEN, None)


def _after_transaction_end(session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is not None:
        return
    # Here and not after the commit: the session's own connection is back in the pool.
    written = session.info.pop(_WRITTEN, None)
    committed = session.info.pop(_COMMITTED, False)
    celery = session.info.get(_CELERY)
    if written and committed and celery is not None:
        _publish(session, celery, written)


def _publish(session: Session, celery: Celery, ids: list[UUID]) -> None:
    try:
        with session.get_bind(OutboxMessage).engine.begin() as connection:
            publish_own(connection, celery, ids, _bounds(celery))
    except Exception as error:  # noqa: BLE001 - it is committed: the caller must not take it for failed
        logger.warning(
            "%s messages wait for the relay: %s",
            len(ids),
            error,
            extra={"action": "outbox.not_published"},
        )


def _bounds(celery: Celery) -> Bounds:
    bounds: Bounds = celery.conf.get("outbox_bounds") or Bounds()
    return bounds
