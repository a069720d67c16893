"""Empties a queue without losing what was accepted: each message ends as a dead letter.

What it was about ends with the reason, as if the message had been given up: no sweep
sends it out again, and replaying the dead letter lets it wait again. What a worker
has in hand is left alone.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from celery import Celery
from kombu import Connection as BrokerConnection
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from shared.contract import SCHEDULED
from shared.errors import PurgedFromQueue
from shared.models import NO_TENANT, DeadLetter
from shared.queueing.task import FlaskTask
from worker.delivery import broker, dead_letters
from worker.delivery.broker import Waiting
from worker.delivery.delivered import message_id

logger = logging.getLogger(__name__)

_BATCH = 50

_NEXT = text("""
    SELECT id, task, queue, args, kwargs, tenant_id, attempts FROM outbox
    WHERE queue = :queue AND id <> ALL(CAST(:tried AS uuid[]))
      AND (lease_expires_at IS NULL OR lease_expires_at < now())
    LIMIT :limit FOR UPDATE SKIP LOCKED
""")
_GONE = text("DELETE FROM outbox WHERE id = ANY(CAST(:ids AS uuid[]))")
_EXISTS = text("SELECT 1 FROM outbox WHERE id = :id")
_IN_HAND = text("""
    SELECT count(*) FROM outbox WHERE queue = :queue AND lease_expires_at >= now()
""")


@dataclass(frozen=True, slots=True)
class Purged:
    """What became of a queue's messages.

    Attributes:
        buried: they are dead letters now.
        dropped: of the schedule, which sends them again by itself.
        in_hand: workers have them: left alone.
    """

    buried: int
    dropped: int
    in_hand: int


class Purge:
    """The purge of one queue.

    Args:
        engine: the database.
        celery: knows the tasks; import their modules first.
        connection: the broker.
        queue: which.
        reason: what people read of it later.
    """

    def __init__(
        self,
        engine: Engine,
        celery: Celery,
        connection: BrokerConnection,
        queue: str,
        reason: str = "",
    ) -> None:
        self._engine = engine
        self._celery = celery
        self._connection = connection
        self._queue = queue
        what = f"purged from the queue {queue}"
        self._error = PurgedFromQueue(f"{what}: {reason}" if reason else what)

    def run(self) -> Purged:
        """Empty the queue as it is at the beginning; what comes meanwhile may stay.

        Raises:
            SQLAlchemyError: the database does not answer; done again, it goes on.
            kombu.exceptions.OperationalError: the broker does not answer.
        """
        # The broker first: what is missing there would be taken for lost, and published again.
        self._connection.ensure_connection(max_retries=1, interval_start=0)
        buried = self._bury_rows()
        unwritten, dropped = self._empty_broker()
        with self._engine.connect() as connection:
            in_hand = connection.scalar(_IN_HAND, {"queue": self._queue}) or 0
        return Purged(buried + unwritten, dropped, in_hand)

    def _bury_rows(self) -> int:
        buried = 0
        failed: list[str] = []
        while True:
            with Session(self._engine) as session, session.begin():
                values = {"queue": self._queue, "tried": failed, "limit": _BATCH}
                # Locked: a worker that comes for one waits, and finds it gone.
                rows = session.execute(_NEXT, values).all()
                done = [row for row in rows if self._abandon(row.task, row.args, row.kwargs)]
                session.add_all(
                    self._letter(row.id, row.task, row.args, row.kwargs, row.tenant_id)
                    for row in done
                )
                session.flush()
                session.execute(_GONE, {"ids": [str(row.id) for row in done]})
            if not rows:
                return buried
            failed += [str(row.id) for row in rows if row not in done]
            buried += len(done)

    def _empty_broker(self) -> tuple[int, int]:
        buried = dropped = 0
        for message in list(broker.waiting(self._connection, self._queue)):
            if message.has_row:
                with self._engine.connect() as connection:
                    row = connection.execute(_EXISTS, {"id": message_id(message.id)})
                    if row.one_or_none() is None:
                        broker.take_out(self._connection, message)
            elif message.task in SCHEDULED:
                dropped += broker.take_out(self._connection, message)
            else:
                buried += self._bury_unwritten(message)
        return buried, dropped

    def _bury_unwritten(self, message: Waiting) -> bool:
        task = self._task(message.task)
        own_id = message_id(message.id)
        args: Sequence[Any] = message.args
        kwargs: Mapping[str, Any] = message.kwargs
        if task is not None:
            args, kwargs = task.at_rest(args, kwargs, own_id)
        tenant_id = UUID(message.tenant_id) if message.tenant_id else NO_TENANT
        with Session(self._engine) as session, session.begin():
            letter = self._letter(own_id, message.task, args, kwargs, tenant_id)
            session.add(letter)
            session.flush()
            letter_id = letter.id
        if broker.take_out(self._connection, message):
            self._abandon(message.task, args, kwargs)
            return True
        # A worker was faster: it is under way, and not given up.
        with Session(self._engine) as session, session.begin():
            dead_letters.discard(session, [letter_id])
        return False

    def _abandon(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        task = self._task(name)
        if task is None:
            return True
        try:
            task.abandon(self._error, args, kwargs)
        except Exception:
            logger.exception("%s is not purged", name, extra={"action": "queue.not_purged"})
            return False
        return True

    def _task(self, name: str) -> FlaskTask | None:
        task = self._celery.tasks.get(name)
        return task if isinstance(task, FlaskTask) else None

    def _letter(
        self,
        own_id: UUID,
        task: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        tenant_id: UUID,
    ) -> DeadLetter:
        return DeadLetter(
            message_id=own_id,
            tenant_id=tenant_id,
            task=task,
            queue=self._queue,
            args=list(args),
            kwargs=dict(kwargs),
            exception=type(self._error).__qualname__,
            reason=str(self._error),
        )
