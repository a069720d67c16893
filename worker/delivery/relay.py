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
from shared.queueing.publishing import BROKER_ERRORS, Bounds, Publishable, publish, wake_relays
from shared.sql import text_by_database
from worker.delivery import broker, metrics
from worker.delivery.single import single_statements

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
# One probe of the index a lane, however many messages wait in it.
_DUE = text_by_database(
    """
    WITH RECURSIVE lanes AS (
        (SELECT queue, priority, tenant_id, available_at FROM outbox
         WHERE published_at IS NULL
         ORDER BY queue, priority, tenant_id, available_at LIMIT 1)
        UNION ALL
        SELECT following.queue, following.priority, following.tenant_id, following.available_at
        FROM lanes, LATERAL (
            SELECT queue, priority, tenant_id, available_at FROM outbox
            WHERE published_at IS NULL
              AND (queue, priority, tenant_id) > (lanes.queue, lanes.priority, lanes.tenant_id)
            ORDER BY queue, priority, tenant_id, available_at LIMIT 1
        ) AS following
    )
    SELECT queue, CAST(extract(epoch FROM min(available_at) - now()) AS float8) AS in_seconds
    FROM lanes GROUP BY queue
""",
    mariadb="""
    SELECT queue, TIMESTAMPDIFF(MICROSECOND, NOW(6), MIN(available_at)) / 1e6 AS in_seconds
    FROM outbox WHERE published_at IS NULL GROUP BY queue
""",
)
_TAKE = text_by_database(
    """
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
        SELECT tenant_id, priority, count(*) AS messages FROM outbox
        WHERE published_at IS NOT NULL AND queue = :queue GROUP BY tenant_id, priority
    ),
    -- The cap is for the others' sake: who is alone may fill every slot besides.
    cap AS (
        SELECT :tenant_cap + CASE WHEN (SELECT count(DISTINCT tenant_id) FROM lanes) > 1 THEN 0
            ELSE (SELECT coalesce(sum(concurrency), 0) FROM worker_nodes
                  WHERE :queue = ANY(queues) AND seen_at > now() - interval '60 seconds')
        END AS most
    ),
    turns AS (
        SELECT next.id, next.available_at,
               lanes.priority + coalesce(tenants.priority, 0) AS priority,
               coalesce(ahead.messages, 0) + row_number() OVER (
                   PARTITION BY lanes.tenant_id
                   ORDER BY lanes.priority DESC, next.available_at, next.sequence
               ) AS turn
        FROM lanes
        -- A hundred summaries under way are no reason to keep an answer waiting.
        LEFT JOIN LATERAL (
            SELECT CAST(sum(messages) AS bigint) AS messages FROM busy
            WHERE busy.tenant_id = lanes.tenant_id AND busy.priority >= lanes.priority
        ) AS ahead ON true
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
                    AND (held.queue IS NULL OR held.queue = :queue)
                    AND (held.task IS NULL OR message.task = held.task
                         OR right(message.task, length(held.task) + 1) = '.' || held.task)
                    AND (held.tenant_id IS NULL OR held.tenant_id = message.tenant_id)
                    AND (held.subject_id IS NULL OR held.subject_id = message.id
                         OR message.args::text LIKE '%' || held.subject_id || '%'
                         OR message.kwargs::text LIKE '%' || held.subject_id || '%')
              )
            ORDER BY message.available_at, message.sequence
            LIMIT greatest((SELECT most FROM cap) - coalesce(ahead.messages, 0), 0)
        ) AS next
        WHERE NOT EXISTS (
            SELECT 1 FROM task_switches AS held
            WHERE held.action = 'hold' AND held.task IS NULL AND held.subject_id IS NULL
              AND (held.queue IS NULL OR held.queue = :queue)
              AND (held.tenant_id IS NULL OR held.tenant_id = lanes.tenant_id)
        )
    ),
    chosen AS (
        SELECT id, turn, priority, available_at FROM turns WHERE turn <= (SELECT most FROM cap)
        ORDER BY priority DESC, turn, available_at
        LIMIT greatest(
            least(:room, :high_water_mark - (SELECT coalesce(sum(messages), 0) FROM busy)), 0
        )
    )
    SELECT message.id, message.task, message.queue, message.args, message.kwargs,
           message.tenant_id, message.attempts, chosen.turn, message.headers
    FROM chosen JOIN outbox AS message
        -- Said twice, so that no statistics talk the planner into reading the whole backlog.
        ON message.id = chosen.id AND message.id = ANY(ARRAY(SELECT id FROM chosen))
    WHERE message.published_at IS NULL
    ORDER BY chosen.priority DESC, chosen.turn, chosen.available_at
    FOR UPDATE OF message SKIP LOCKED
""",
    mariadb="""
    WITH lanes AS (
        SELECT DISTINCT priority, tenant_id FROM outbox
        WHERE published_at IS NULL AND queue = :queue
    ),
    busy AS (
        SELECT tenant_id, priority, COUNT(*) AS messages FROM outbox
        WHERE published_at IS NOT NULL AND queue = :queue GROUP BY tenant_id, priority
    ),
    cap AS (
        SELECT :tenant_cap + CASE WHEN (SELECT COUNT(DISTINCT tenant_id) FROM lanes) > 1 THEN 0
            ELSE (SELECT COALESCE(SUM(concurrency), 0) FROM worker_nodes
                  WHERE JSON_CONTAINS(queues, JSON_QUOTE(:queue))
                    AND seen_at > NOW(6) - INTERVAL 60 SECOND)
        END AS most
    ),
    ahead AS (
        SELECT lanes.priority, lanes.tenant_id, COALESCE(SUM(busy.messages), 0) AS messages
        FROM lanes LEFT JOIN busy
            ON busy.tenant_id = lanes.tenant_id AND busy.priority >= lanes.priority
        GROUP BY lanes.priority, lanes.tenant_id
    ),
    held AS (
        SELECT queue, task, tenant_id, subject_id, LOWER(INSERT(INSERT(INSERT(INSERT(
            subject_id, 9, 0, '-'), 14, 0, '-'), 19, 0, '-'), 24, 0, '-')) AS subject
        FROM task_switches WHERE action = 'hold' AND (queue IS NULL OR queue = :queue)
    ),
    waiting AS (
        SELECT message.id, message.available_at, message.sequence, message.priority,
               message.tenant_id, ROW_NUMBER() OVER (
                   PARTITION BY message.tenant_id, message.priority
                   ORDER BY message.available_at, message.sequence
               ) AS place
        FROM outbox AS message
        WHERE message.published_at IS NULL AND message.queue = :queue
          AND message.available_at <= NOW(6)
          AND NOT EXISTS (
              SELECT 1 FROM held
              WHERE (held.task IS NULL OR message.task = held.task
                     OR RIGHT(message.task, CHAR_LENGTH(held.task) + 1) = CONCAT('.', held.task))
                AND (held.tenant_id IS NULL OR held.tenant_id = message.tenant_id)
                AND (held.subject_id IS NULL OR held.subject_id = message.id
                     OR LOCATE(held.subject, message.args) OR LOCATE(held.subject, message.kwargs))
          )
    ),
    turns AS (
        SELECT waiting.id, waiting.available_at,
               waiting.priority + COALESCE(tenants.priority, 0) AS priority,
               ahead.messages + ROW_NUMBER() OVER (
                   PARTITION BY waiting.tenant_id
                   ORDER BY waiting.priority DESC, waiting.available_at, waiting.sequence
               ) AS turn
        FROM waiting
        JOIN ahead ON ahead.priority = waiting.priority AND ahead.tenant_id = waiting.tenant_id
        LEFT JOIN tenants ON tenants.id = waiting.tenant_id
        WHERE waiting.place <= (SELECT most FROM cap) - ahead.messages
    ),
    chosen AS (
        SELECT id, turn, priority, available_at, ROW_NUMBER() OVER (
            ORDER BY priority DESC, turn, available_at
        ) AS place
        FROM turns WHERE turn <= (SELECT most FROM cap)
    )
    SELECT message.id, message.task, message.queue, message.args, message.kwargs,
           message.tenant_id, message.attempts, CAST(chosen.turn AS SIGNED) AS turn,
           message.headers
    FROM chosen JOIN outbox AS message ON message.id = chosen.id
    WHERE message.published_at IS NULL AND chosen.place <=
          LEAST(:room, :high_water_mark - (SELECT COALESCE(SUM(messages), 0) FROM busy))
    ORDER BY chosen.priority DESC, chosen.turn, chosen.available_at
    FOR UPDATE SKIP LOCKED
""",
)
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
            return {row.queue: row.in_seconds for row in connection.execute(_DUE)}

    def _publish(self, queue: str) -> _Published | None:
        with self._engine.begin() as connection, ended_when_frozen(connection, _FROZEN_SECONDS):
            if not hold_if_free(connection, _LOCK, {"queue": queue}, f"relay/{queue}"):
                return None
            waiting = broker.backlog(self.broker_connection(), queue)
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
