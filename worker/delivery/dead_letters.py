"""Dead letters: what was given up, to be read, replayed or discarded."""

import json
import traceback
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

from celery import Celery
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from shared.errors import NotFound
from shared.models import DeadLetter
from shared.queueing import outbox
from shared.queueing.publishing import plain_json
from shared.queueing.task import FlaskTask
from shared.submitting.files import storable


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
    )
    session.add(letter)
    return letter.id


def letters(session: Session, *, task: str | None = None, limit: int = 100) -> list[DeadLetter]:
    """The newest letters first; of one task by its name, or the end of it after a dot."""
    query = select(DeadLetter).order_by(DeadLetter.created_at.desc()).limit(limit)
    return list(session.scalars(_of_task(query, task)))


def letter(session: Session, letter_id: UUID) -> DeadLetter:
    """One letter.

    Raises:
        NotFound: there is no such letter.
    """
    found = session.get(DeadLetter, letter_id)
    if found is None:
        raise NotFound(f"there is no dead letter {letter_id}: see `rag-worker dead-letters list`")
    return found


def discard(session: Session, chosen: Sequence[UUID]) -> int:
    """Delete letters, in the caller's transaction; returns how many there were."""
    gone = session.execute(
        delete(DeadLetter).where(DeadLetter.id.in_(chosen)).returning(DeadLetter.id)
    )
    return len(gone.all())


def replay(session: Session, found: DeadLetter, celery: Celery | None = None) -> UUID:
    """Turn a letter into an ordinary message again, in the caller's transaction.

    Returns:
        The new message's id.
    """
    task = celery.tasks.get(found.task) if celery is not None else None
    if isinstance(task, FlaskTask):
        task.revive(session, found.args, found.kwargs)
    message_id = outbox.write(
        session, found.task, found.args, found.kwargs, celery=celery, tenant_id=found.tenant_id
    )
    session.delete(found)
    return message_id


def as_json(found: DeadLetter) -> str:
    """A letter for scripts."""
    columns = {column.key: getattr(found, column.key) for column in DeadLetter.__table__.columns}
    return json.dumps(columns, default=str)


def _of_task(query: Any, task: str | None) -> Any:
    if task is None:
        return query
    return query.where((DeadLetter.task == task) | DeadLetter.task.endswith("." + task))
