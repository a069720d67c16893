"""Measures what waits and what is under way, and serves it to Prometheus."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from kombu import Connection as BrokerConnection
from prometheus_client import start_http_server
from sqlalchemy import Connection, Engine, text

from shared.queueing.publishing import Bounds
from worker.delivery import broker, metrics

logger = logging.getLogger(__name__)

#: Counting more of a backlog would cost more than the number is worth.
MOST_COUNTED = 100_000
#: How many times longer than a measurement the pause after it is: every worker measures.
_REST = 100

_MEASURE = text("""
    WITH RECURSIVE lanes AS (
        (SELECT priority, tenant_id, available_at FROM outbox
         WHERE published_at IS NULL AND queue = :queue
         ORDER BY priority, tenant_id, available_at LIMIT 1)
        UNION ALL
        SELECT following.priority, following.tenant_id, following.available_at
        FROM lanes, LATERAL (
            SELECT priority, tenant_id, available_at FROM outbox
            WHERE published_at IS NULL AND queue = :queue
              AND (priority, tenant_id) > (lanes.priority, lanes.tenant_id)
            ORDER BY priority, tenant_id, available_at LIMIT 1
        ) AS following
    ),
    busy AS (
        SELECT count(*) AS messages FROM outbox
        WHERE published_at IS NOT NULL AND queue = :queue GROUP BY tenant_id
    )
    SELECT (SELECT count(*) FROM (
               SELECT 1 FROM outbox
               WHERE published_at IS NULL AND queue = :queue LIMIT :most
           ) AS counted) AS unpublished,
           CAST(coalesce(extract(epoch FROM (
               SELECT now() - min(available_at) FROM lanes WHERE available_at <= now()
           )), 0) AS float8) AS oldest_seconds,
           CAST(coalesce(sum(messages), 0) AS bigint) AS in_flight,
           count(*) FILTER (WHERE messages >= :tenant_cap) AS tenants_at_cap
    FROM busy
""")
_DEAD_LETTERS = text("SELECT count(*) FROM dead_letters")
_BREAKERS = text("SELECT count(*) FROM trace_breakers WHERE open_until IS NOT NULL")
_CONSUMERS = text("""
    SELECT count(*) FROM worker_nodes
    WHERE CAST(:queue AS text) = ANY(queues)
      AND seen_at > statement_timestamp() - make_interval(secs => :silent_seconds)
""")
# Runs are in pool children and in other workers: their own counters nobody would see.
_SCHEDULE = text("""
    SELECT name, total, error IS NOT NULL AS has_failed,
           CAST(extract(epoch FROM statement_timestamp() - ended_at) AS float8) AS ago_seconds
    FROM scheduled_runs
""")


class Measurement:
    """Fills the gauges when called, as often as it costs next to nothing.

    Args:
        engine: the database.
        connect: gives a connection to the broker.
        queues: those to measure.
        bounds: what the broker may hold.
        silent_seconds: a worker that has not reported for so long counts no more.
    """

    def __init__(
        self,
        engine: Engine,
        connect: Callable[[], BrokerConnection],
        queues: Sequence[str],
        bounds: Bounds,
        silent_seconds: float = 30.0,
    ) -> None:
        self._silent_seconds = silent_seconds
        self._engine = engine
        self._connect = connect
        self._queues = tuple(queues)
        self._bounds = bounds
        self._rest_until = 0.0

    def __call__(self) -> None:
        """Measure once, unless the last time was expensive and not long ago.

        Raises:
            SQLAlchemyError: the database does not answer.
            redis.exceptions.RedisError: the broker does not answer.
        """
        began = time.monotonic()
        if began < self._rest_until:
            return
        with self._engine.connect() as database:
            database.execution_options(isolation_level="AUTOCOMMIT")
            for queue in self._queues:
                _measure_queue(database, queue, self._bounds)
                values = {"queue": queue, "silent_seconds": self._silent_seconds}
                consumers = database.scalar(_CONSUMERS, values) or 0
                metrics.QUEUE_CONSUMERS.labels(queue).set(consumers)
            _measure_schedule(database)
            metrics.DEAD_LETTERS.set(database.scalar(_DEAD_LETTERS) or 0)
            metrics.TRACE_BREAKERS_OPEN.set(database.scalar(_BREAKERS) or 0)
        for queue in self._queues:
            metrics.BROKER_BACKLOG.labels(queue).set(broker.backlog(self._connect(), queue))
        ended = time.monotonic()
        self._rest_until = ended + _REST * (ended - began)


def measured(database: Connection, queue: str, tenant_cap: int = 1) -> Any:
    """What of a queue is in the outbox: a row of ``_MEASURE``."""
    values = {"queue": queue, "most": MOST_COUNTED, "tenant_cap": tenant_cap}
    return database.execute(_MEASURE, values).one()


def _measure_queue(database: Connection, queue: str, bounds: Bounds) -> None:
    row = measured(database, queue, bounds.tenant_cap)
    values = {
        metrics.OUTBOX_UNPUBLISHED: row.unpublished,
        metrics.OUTBOX_OLDEST_SECONDS: row.oldest_seconds,
        metrics.OUTBOX_IN_FLIGHT: row.in_flight,
        metrics.OUTBOX_TENANTS_AT_CAP: row.tenants_at_cap,
    }
    for gauge, value in values.items():
        gauge.labels(queue).set(value)


def _measure_schedule(database: Connection) -> None:
    for row in database.execute(_SCHEDULE):
        metrics.SCHEDULE_DONE.labels(row.name).set(row.total)
        metrics.SCHEDULE_FAILED.labels(row.name).set(row.has_failed)
        if row.ago_seconds is not None:
            metrics.SCHEDULE_AGO_SECONDS.labels(row.name).set(row.ago_seconds)


def serve_metrics(host: str, port: int) -> None:
    """Serve the metrics at ``/metrics`` until the process ends; port 0 means no.

    A port that somebody else has costs the metrics, not the worker.
    """
    if not port:
        return
    try:
        start_http_server(port, host)
    except OSError as error:
        logger.error(  # noqa: TRY400 - the reason is in the line
            "no metrics at %s:%s: %s", host, port, error, extra={"action": "metrics.not_served"}
        )
