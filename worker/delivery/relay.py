"""The relay: from the outbox to the broker, fair between tenants and never more than it can bear.

Every worker has one. A pass over a queue holds an advisory lock, so that the
bounds are exact however many relays there are; rows a producer is publishing at
that moment are skipped.
"""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from celery import Celery
from kombu import Connection as BrokerConnection
from sqlalchemy import Engine, text

from shared.queueing.locks import ended_when_frozen, hold, hold_if_free
from shared.queueing.publishing import BROKER_ERRORS, Bounds, publish, wake_relays
from worker.delivery import broker, metrics
from worker.delivery.single import single_statements
from worker.delivery.taking import DUE, take

logger = logging.getLogger(__name__)

#: A relay that freezes in a pass must not keep the others out.
_FROZEN_SECONDS = 15

_LOCK = text(f"""
    SELECT set_config('idle_in_transaction_session_timeout', '{_FROZEN_SECONDS}s', true),
           pg_try_advisory_xact_lock(hashtext('rag-worker relay'), hashtext(:queue)) AS is_ours
""")
_LOCK_MEMORY = text(f"""
    SELECT set_config('idle_in_transaction_session_timeout', '{_FROZEN_SECONDS}s', true),
           pg_advisory_xact_lock(hashtext('rag-worker relay'), 0)
""")
_FORGET = text("""
    UPDATE outbox SET published_at = NULL
    WHERE published_at IS NOT NULL AND (lease_expires_at IS NULL OR lease_expires_at < now())
""")


#: So many times what workers took since the last pass is left for them: the next may be later.
_STOCK = 2


@dataclass(frozen=True, slots=True)
class Passed:
    """What a pass over the queues came to."""

    published: int = 0
    #: Whether rows were found that may go now, or as soon as others are done.
    is_backlogged: bool = False
    #: Whether another relay had a queue: it may not have seen what this one came for.
    is_contended: bool = False
    #: Whether workers find more in the broker than they took since the pass before.
    is_stocked: bool = False
    #: When the first of the messages that must not go yet may.
    due_in_seconds: float = math.inf


@dataclass(frozen=True, slots=True)
class _Published:
    """What a pass did for a queue.

    Attributes:
        sent: messages; under a full bound as many as ended since the pass before.
        waiting: those that no worker had taken by then.
    """

    sent: int
    waiting: int

    @property
    def is_stocked(self) -> bool:
        return self.waiting >= _STOCK * self.sent


class Relay:
    """Publishes what producers left in the outbox.

    Args:
        engine: the database.
        celery: the app whose tasks are published.
        queues: those to care for.
        bounds: what the broker may hold.
        connect: makes the relay's own connection to the broker: pools are the tasks'.
    """

    def __init__(
        self,
        engine: Engine,
        celery: Celery,
        queues: Sequence[str],
        bounds: Bounds,
        connect: Callable[[], BrokerConnection],
    ) -> None:
        self._engine = engine
        self._celery = celery
        self._queues = tuple(queues)
        self._bounds = bounds
        self._connect = connect
        self._connection: BrokerConnection | None = None

    def run_pass(self) -> Passed:
        """Publish what the bounds allow, queue by queue.

        Raises:
            SQLAlchemyError: the database does not answer.
            ServiceUnavailable: the broker does not answer.
        """
        try:
            return self._run_pass()
        except BROKER_ERRORS:
            self.close()
            raise

    def close(self) -> None:
        """Close the relay's own connection to the broker."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.release()

    def _run_pass(self) -> Passed:
        self._notice_a_broker_that_lost_its_memory()
        due = self._due()
        ready = [queue for queue in self._queues if due.get(queue, math.inf) <= 0]
        tried = [self._publish(queue) for queue in ready]
        done = [one for one in tried if one is not None]
        return Passed(
            sum(one.sent for one in done),
            is_backlogged=bool(ready),
            is_contended=None in tried,
            is_stocked=bool(done) and all(one.is_stocked for one in done),
            due_in_seconds=min((due[one] for one in due if one not in ready), default=math.inf),
        )

    def _due(self) -> dict[str, float]:
        with single_statements(self._engine) as connection:
            return {row.queue: row.in_seconds for row in connection.execute(DUE)}

    def _publish(self, queue: str) -> _Published | None:
        with self._engine.begin() as connection, ended_when_frozen(connection, _FROZEN_SECONDS):
            if not hold_if_free(connection, _LOCK, {"queue": queue}, f"relay/{queue}"):
                return None
            waiting = broker.backlog(self.broker_connection(), queue)
            room = self._bounds.high_water_mark - waiting
            messages = take(connection, queue, self._bounds, room)
            sent = publish(connection, self._celery, self._producer(), messages)
        metrics.RELAY_PUBLISHED.labels(queue).inc(sent)
        return _Published(sent, waiting)

    def _notice_a_broker_that_lost_its_memory(self) -> None:
        if broker.remembers(self.broker_connection()):
            return
        # Held until the mark is there: a second relay must not forget what this one publishes.
        with self._engine.begin() as holding, ended_when_frozen(holding, _FROZEN_SECONDS):
            hold(holding, _LOCK_MEMORY, {}, "relay")
            if broker.remembers(self.broker_connection()):
                return
            with self._engine.begin() as connection:
                lost: Any = connection.execute(_FORGET).rowcount
                wake_relays(connection)
            # Marked after the commit: dying in between, the next pass does it again.
            broker.remember(self.broker_connection())
        if lost:
            logger.warning(
                "the broker is empty: %s messages are published again",
                lost,
                extra={"action": "relay.broker_empty"},
            )
            metrics.RELAY_REPUBLISHED.add(lost, "broker_empty")

    def broker_connection(self) -> BrokerConnection:
        """The relay's own connection, for its thread alone.

        Raises:
            kombu.exceptions.OperationalError: the broker does not answer.
        """
        if self._connection is None:
            self._connection = self._connect()
        # Left alone, kombu tries for as long as its connection timeout is.
        return self._connection.ensure_connection(max_retries=1, interval_start=0)

    def _producer(self) -> Any:
        return self._celery.amqp.Producer(self.broker_connection(), auto_declare=False)
