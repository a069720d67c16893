"""The relay: from the outbox to the broker, fair between tenants and never more than it can bear.

Every worker has one. A pass over a queue holds an advisory lock, so that the
bounds are exact however many relays there are; rows a producer is publishing at
that moment are skipped.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from celery import Celery
from kombu import Connection as BrokerConnection
from sqlalchemy import Connection, Engine, text

from shared.queueing.publishing import BROKER_ERRORS, Bounds, Publishable, publish, wake_relays
from worker.delivery import broker, metrics

logger = logging.getLogger(__name__)

#: A relay that freezes in a pass must not keep the others out.
_FROZEN_SECONDS = 15

_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtext('rag-worker relay'), hashtext(:queue))")
_ANY = text("SELECT 1 FROM outbox WHERE published_at IS NULL AND available_at <= now() LIMIT 1")
_TAKE = text("""
    WITH RECURSIVE lanes AS (
        (SELECT priority, tenant_id FROM outbox
         WHERE published_at IS NULL AND queue = :queue
         ORDER BY priority DESC, tenant_id DESC LIMIT 1)
        UNION ALL
        SELECT following.priority, following.tenant_id
        FROM lanes, LATERAL (
            SELECT priority, tenant_id FROM outbox
            WHERE published_at IS NULL AND queue = :queue
              AND (priority, tenant_id) < (lanes.priority, lanes.tenant_id)
            ORDER BY priority DESC, tenant_id DESC LIMIT 1
        ) AS following
    ),
    busy AS (
        SELECT tenant_id, count(*) AS messages FROM outbox
        WHERE published_at IS NOT NULL AND queue = :queue GROUP BY tenant_id
    ),
    turns AS (
        SELECT next.id, next.available_at,
               lanes.priority + coalesce(tenants.priority, 0) AS priority,
               coalesce(busy.messages, 0) + row_number() OVER (
                   PARTITION BY lanes.tenant_id
                   ORDER BY lanes.priority DESC, next.available_at, next.sequence
               ) AS turn
        FROM lanes
        LEFT JOIN busy ON busy.tenant_id = lanes.tenant_id
        LEFT JOIN tenants ON tenants.id = lanes.tenant_id
        CROSS JOIN LATERAL (
            SELECT message.id, message.available_at, message.sequence
            FROM outbox AS message
            WHERE message.published_at IS NULL AND message.queue = :queue
              AND message.priority = lanes.priority AND message.tenant_id = lanes.tenant_id
              AND message.available_at <= now()
              AND NOT EXISTS (
                  SELECT 1 FROM task_switches AS held
                  WHERE held.action = 'hold'
                    AND (held.task IS NULL OR message.task = held.task
                         OR message.task LIKE '%.' || held.task)
                    AND (held.tenant_id IS NULL OR held.tenant_id = message.tenant_id)
                    AND (held.subject_id IS NULL OR held.subject_id = message.id
                         OR message.args::text LIKE '%' || held.subject_id || '%'
                         OR message.kwargs::text LIKE '%' || held.subject_id || '%')
              )
            ORDER BY message.available_at, message.sequence
            LIMIT greatest(:tenant_cap - coalesce(busy.messages, 0), 0)
        ) AS next
        WHERE NOT EXISTS (
            SELECT 1 FROM task_switches AS held
            WHERE held.action = 'hold' AND held.task IS NULL AND held.subject_id IS NULL
              AND (held.tenant_id IS NULL OR held.tenant_id = lanes.tenant_id)
        )
    ),
    chosen AS (
        SELECT id, turn, priority, available_at FROM turns WHERE turn <= :tenant_cap
        ORDER BY priority DESC, turn, available_at
        LIMIT greatest(
            least(:room, :high_water_mark - (SELECT coalesce(sum(messages), 0) FROM busy)), 0
        )
    )
    SELECT message.id, message.task, message.queue, message.args, message.kwargs,
           message.tenant_id, message.attempts, chosen.turn
    FROM outbox AS message JOIN chosen ON chosen.id = message.id
    WHERE message.published_at IS NULL
    ORDER BY chosen.priority DESC, chosen.turn, chosen.available_at
    FOR UPDATE OF message SKIP LOCKED
""")
_FORGET = text("""
    UPDATE outbox SET published_at = NULL
    WHERE published_at IS NOT NULL AND (lease_expires_at IS NULL OR lease_expires_at < now())
""")


@dataclass(frozen=True, slots=True)
class Passed:
    """What a pass over the queues came to."""

    published: int
    #: Whether rows were left that may go as soon as others are done.
    is_backlogged: bool


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
        with self._engine.connect() as connection:
            if connection.execute(_ANY).one_or_none() is None:
                return Passed(0, is_backlogged=False)
        published = sum(self._publish(queue) for queue in self._queues)
        return Passed(published, is_backlogged=True)

    def _publish(self, queue: str) -> int:
        waiting = broker.backlog(self._open(), queue)
        with self._engine.begin() as connection:
            self._freeze_guard(connection)
            if not connection.scalar(_LOCK, {"queue": queue}):
                return 0
            rows = connection.execute(
                _TAKE,
                {
                    "queue": queue,
                    "tenant_cap": self._bounds.tenant_cap,
                    "high_water_mark": self._bounds.high_water_mark,
                    "room": self._bounds.high_water_mark - waiting,
                },
            )
            messages = [Publishable(*row) for row in rows]
            sent = publish(connection, self._celery, self._producer(), messages)
        metrics.RELAY_PUBLISHED.labels(queue).inc(sent)
        return sent

    def _freeze_guard(self, connection: Connection) -> None:
        timeout = f"SET LOCAL idle_in_transaction_session_timeout = '{_FROZEN_SECONDS}s'"
        connection.execute(text(timeout))

    def _notice_a_broker_that_lost_its_memory(self) -> None:
        if broker.remembers(self._open()):
            return
        with self._engine.begin() as connection:
            lost: Any = connection.execute(_FORGET).rowcount
            wake_relays(connection)
        # Marked after the commit: dying in between, the next pass does it again.
        broker.remember(self._open())
        if lost:
            logger.warning(
                "the broker is empty: %s messages are published again",
                lost,
                extra={"action": "relay.broker_empty"},
            )
            metrics.RELAY_REPUBLISHED.labels("broker_empty").inc(lost)

    def _open(self) -> BrokerConnection:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _producer(self) -> Any:
        return self._celery.amqp.Producer(self._open(), auto_declare=False)
