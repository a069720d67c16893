"""Dead letters: what was given up, to be read, replayed or discarded."""

import traceback
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

from celery import Celery
from sqlalchemy import String, cast, delete, select
from sqlalchemy.orm import Session

from shared.errors import InvalidRequest, NotFound
from shared.models import DeadLetter, OutboxMessage
from shared.queueing import outbox, trace_context
from shared.queueing.publishing import plain_json
from shared.queueing.task import FlaskTask
from shared.submitting.files import storable

_OLDEST_FIRST = (DeadLetter.created_at, DeadLetter.id)


def bury(
    session: Session,
    task: str,
    queue: str,
    args: Sequence[Any],
    error: BaseException,
    *,
    tenant_id: UUID,
    attempts: int,
) -> UUID:
    """Write a dead letter in the caller's transaction, for one of several subjects of a message."""
    letter = DeadLetter(
        id=uuid4(),
        message_id=uuid4(),
        tenant_id=tenant_id,
        task=task,
        queue=queue,
        args=plain_json(list(args)),
        kwargs={},
        attempts=attempts,
        exception=type(error).__qualname__,
        reason=storable(str(error) or type(error).__qualname__),
        traceback=storable("".join(traceback.format_exception(error))),
        headers=trace_context.carried() or None,
    )
    session.add(letter)
    return letter.id


def letters(session: Session, *, task: str | None = None, limit: int = 100) -> list[DeadLetter]:
    """The newest letters first; of one task by its name, or the end of it after a dot."""
    query = select(DeadLetter).order_by(DeadLetter.created_at.desc()).limit(limit)
    return list(session.scalars(_of_task(query, task)))


def letter_ids(session: Session, *, task: str | None = None) -> list[UUID]:
    """Every letter's id, the oldest first; of one task, as ``letters`` has it."""
    return list(session.scalars(_of_task(select(DeadLetter.id), task).order_by(*_OLDEST_FIRST)))


def letter(session: Session, id_or_prefix: "UUID | str") -> DeadLetter:
    """One letter, by its id or the beginning of it.

    Raises:
        NotFound: there is no such letter.
        InvalidRequest: several begin so.
    """
    beginning = str(id_or_prefix).lower()
    query = select(DeadLetter).where(
        cast(DeadLetter.id, String).startswith(beginning, autoescape=True)
    )
    found = session.scalars(query.limit(2)).all()
    if not found or not beginning:
        raise NotFound(
            f"there is no dead letter {id_or_prefix}: see `rag-worker dead-letters list`"
        )
    if len(found) > 1:
        raise InvalidRequest(f"several dead letters begin with {beginning}: write more of the id")
    return found[0]


def discard(session: Session, chosen: Sequence[UUID]) -> int:
    """Delete letters, in the caller's transaction; returns how many there were."""
    gone = session.execute(
        delete(DeadLetter).where(DeadLetter.id.in_(chosen)).returning(DeadLetter.id)
    )
    return len(gone.all())


def replay(session: Session, letter_id: UUID, celery: Celery | None = None) -> UUID | None:
    """Turn a letter into an ordinary message again, in the caller's transaction.

    Args:
        session: the caller's.
        letter_id: which letter.
        celery: publishes after the commit; what its task abandoned is revived if it knows it.

    Returns:
        The new message's id; ``None`` when the letter is gone: somebody else was faster.
    """
    found = session.get(DeadLetter, letter_id, with_for_update=True, populate_existing=True)
    if found is None:
        return None
    task = celery.tasks.get(found.task) if celery is not None else None
    if isinstance(task, FlaskTask):
        task.revive(session, found.args, found.kwargs)
    message_id = outbox.write(
        session, found.task, found.args, found.kwargs, celery=celery, tenant_id=found.tenant_id
    )
    session.flush()
    if isinstance(task, FlaskTask):
        task.replayed(session, found.args, found.kwargs, message_id)
    message = session.get_one(OutboxMessage, message_id)
    # Where it was, whatever the routes of this process say; and of the trace it was.
    message.queue = found.queue
    if found.headers:
        message.headers = found.headers
    session.delete(found)
    return message_id


def as_json(found: DeadLetter) -> dict[str, object]:
    """A letter for scripts."""
    return {column.key: getattr(found, column.key) for column in DeadLetter.__table__.columns}


def _of_task(query: Any, task: str | None) -> Any:
    if task is None:
        return query
    ending = DeadLetter.task.endswith("." + task, autoescape=True)
    return query.where((DeadLetter.task == task) | ending)
