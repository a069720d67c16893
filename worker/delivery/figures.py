"""What the servers know of work: one family of gauges a row, and how each is read.

Every reading is bounded: it follows an index, or counts no further than ``MOST_COUNTED``.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kombu import Connection as BrokerConnection
from prometheus_client.core import GaugeMetricFamily
from sqlalchemy import Connection, text

from shared.models import NO_TENANT, DocumentStatus
from shared.queueing.publishing import Bounds
from shared.sql import text_by_database
from worker.delivery import broker
from worker.delivery.tenant_labels import NOBODY, OTHER

#: Counting more of a backlog would cost more than the number is worth.
MOST_COUNTED = 100_000
#: Documents of one status: an index holds nothing else.
MOST_DOCUMENTS_COUNTED = 1_000_000


@dataclass(frozen=True, slots=True)
class Figure:
    """A gauge.

    Attributes:
        name: as Prometheus has it.
        text: one sentence.
        labels: their names.
    """

    name: str
    text: str
    labels: tuple[str, ...] = ()

    def family(self) -> GaugeMetricFamily:
        """The gauge, without samples."""
        return GaugeMetricFamily(self.name, self.text, labels=self.labels)


_QUEUE = ("queue",)
UNPUBLISHED = Figure("rag_worker_outbox_unpublished", "Messages that wait in the outbox.", _QUEUE)
IN_FLIGHT = Figure("rag_worker_outbox_in_flight", "Messages published and not yet done.", _QUEUE)
OLDEST_SECONDS = Figure(
    "rag_worker_outbox_oldest_seconds", "Age of the oldest message that could go.", _QUEUE
)
TENANTS_AT_CAP = Figure(
    "rag_worker_outbox_tenants_at_cap", "Tenants with as much in flight as they may.", _QUEUE
)
CONSUMERS = Figure("rag_worker_queue_consumers", "Workers that report and serve it.", _QUEUE)
BROKER_BACKLOG = Figure("rag_worker_broker_backlog", "Messages in a broker queue.", _QUEUE)
DEAD_LETTERS = Figure("rag_worker_dead_letters", "Messages given up and kept.", _QUEUE)
TENANT_UNPUBLISHED = Figure(
    "rag_worker_tenant_outbox_unpublished",
    "Messages that wait in the outbox, of the tenants with the most of them.",
    ("tenant",),
)
DOCUMENTS = Figure("rag_worker_documents", "Documents, by where they stand.", ("status",))
LEASES = Figure(
    "rag_worker_leases", "Rows that a worker has, or had when it was last heard of.",
    ("table", "state"),
)  # fmt: skip
BREAKERS_OPEN = Figure(
    "rag_worker_trace_breakers_open", "Trace providers that are left alone since they fail."
)
SCHEDULE_DONE = Figure(
    "rag_worker_schedule_done", "What all runs of an entry did, since it is known.", ("entry",)
)
SCHEDULE_FAILED = Figure(
    "rag_worker_schedule_failed", "Whether its last run failed.", ("entry",)
)  # fmt: skip
SCHEDULE_AGO_SECONDS = Figure(
    "rag_worker_schedule_ago_seconds", "Since the end of its last run.", ("entry",)
)

#: A figure, the values of its labels, and the number.
Sample = tuple[Figure, Sequence[str], float]


@dataclass(frozen=True, slots=True)
class Scope:
    """What is looked at.

    Attributes:
        queues: those to measure.
        bounds: what the broker may hold.
        silent_seconds: a worker that has not reported for so long counts no more.
        tenants: how many have a series of their own.
    """

    queues: Sequence[str]
    bounds: Bounds
    silent_seconds: float = 30.0
    tenants: int = 50


_MEASURE = text_by_database(
    """
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
""",
    mariadb="""
    WITH busy AS (
        SELECT COUNT(*) AS messages FROM outbox
        WHERE published_at IS NOT NULL AND queue = :queue GROUP BY tenant_id
    )
    SELECT (SELECT COUNT(*) FROM (
               SELECT 1 FROM outbox
               WHERE published_at IS NULL AND queue = :queue LIMIT :most
           ) AS counted) AS unpublished,
           COALESCE((
               SELECT TIMESTAMPDIFF(MICROSECOND, MIN(available_at), NOW(6)) / 1e6 FROM outbox
               WHERE published_at IS NULL AND queue = :queue AND available_at <= NOW(6)
           ), 0e0) AS oldest_seconds,
           CAST(COALESCE(SUM(messages), 0) AS SIGNED) AS in_flight,
           COUNT(CASE WHEN messages >= :tenant_cap THEN 1 END) AS tenants_at_cap
    FROM busy
""",
)
_CONSUMERS = text("""
    SELECT count(*) FROM worker_nodes
    WHERE CAST(:queue AS text) = ANY(queues)
      AND seen_at > statement_timestamp() - make_interval(secs => :silent_seconds)
""")
_DEAD_LETTERS = text("""
    SELECT queue, count(*) AS letters FROM (SELECT queue FROM dead_letters LIMIT :most) AS counted
    GROUP BY queue
""")
_TENANTS = text("""
    SELECT tenant_id, count(*) AS messages FROM (
        SELECT tenant_id FROM outbox WHERE published_at IS NULL LIMIT :most
    ) AS counted
    GROUP BY tenant_id ORDER BY messages DESC, tenant_id
""")
# Each by its own words, not by a parameter: only so is the right partial index found.
_DOCUMENTS = text(
    " UNION ALL ".join(
        f"SELECT '{status}' AS status, count(*) AS documents FROM ("  # noqa: S608 - no input in it
        f"SELECT 1 FROM documents WHERE indexing_status = '{status}' LIMIT :most) AS counted"
        for status in DocumentStatus
    )
)
#: Where each table's rows in work are: what its index of the unfinished says.
_LEASED = {
    "outbox": "published_at IS NOT NULL",
    "documents": "indexing_status IN ('parsing', 'cleaning', 'splitting', 'indexing')",
    "generation_works": "status IN ('waiting', 'running')",
    "mail_deliveries": "status IN ('queued', 'sending', 'unknown')",
    "messages": "status IN ('waiting', 'answering')",
    "segment_imports": "status IN ('waiting', 'indexing')",
    "trace_deliveries": "status IN ('waiting', 'sending')",
    "scheduled_runs": "true",
}
_LEASES = text(
    " UNION ALL ".join(
        f"SELECT '{table}' AS name, count(*) FILTER (WHERE NOT overdue) AS held,"  # noqa: S608 - no input
        " count(*) FILTER (WHERE overdue) AS overdue FROM ("
        f"SELECT lease_expires_at < now() AS overdue FROM {table}"
        f" WHERE {condition} AND lease_expires_at IS NOT NULL LIMIT :most) AS counted"
        for table, condition in _LEASED.items()
    )
)
_BREAKERS = text("SELECT count(*) FROM trace_breakers WHERE open_until IS NOT NULL")
# Runs are in pool children and in other workers: their own counters nobody would see.
_SCHEDULE = text("""
    SELECT name, total, error IS NOT NULL AS has_failed,
           CAST(extract(epoch FROM statement_timestamp() - ended_at) AS float8) AS ago_seconds
    FROM scheduled_runs
""")


def measured(database: Connection, queue: str, tenant_cap: int = 1) -> Any:
    """What of a queue is in the outbox: a row of ``_MEASURE``."""
    values = {"queue": queue, "most": MOST_COUNTED, "tenant_cap": tenant_cap}
    return database.execute(_MEASURE, values).one()


def _queues(database: Connection, scope: Scope) -> Iterator[Sample]:
    for queue in scope.queues:
        row = measured(database, queue, scope.bounds.tenant_cap)
        yield UNPUBLISHED, [queue], row.unpublished
        yield OLDEST_SECONDS, [queue], row.oldest_seconds
        yield IN_FLIGHT, [queue], row.in_flight
        yield TENANTS_AT_CAP, [queue], row.tenants_at_cap


def _consumers(database: Connection, scope: Scope) -> Iterator[Sample]:
    for queue in scope.queues:
        values = {"queue": queue, "silent_seconds": scope.silent_seconds}
        yield CONSUMERS, [queue], database.scalar(_CONSUMERS, values) or 0


def _dead_letters(database: Connection, scope: Scope) -> Iterator[Sample]:
    found = dict.fromkeys(scope.queues, 0)
    for row in database.execute(_DEAD_LETTERS, {"most": MOST_COUNTED}):
        queue = row.queue if row.queue in found else OTHER
        found[queue] = found.get(queue, 0) + row.letters
    for queue, letters in found.items():
        yield DEAD_LETTERS, [queue], letters


def _tenants(database: Connection, scope: Scope) -> Iterator[Sample]:
    rest, shown = 0, 0
    for row in database.execute(_TENANTS, {"most": MOST_COUNTED}):
        if row.tenant_id == NO_TENANT:
            yield TENANT_UNPUBLISHED, [NOBODY], row.messages
        elif shown < scope.tenants:
            shown += 1
            yield TENANT_UNPUBLISHED, [str(row.tenant_id)], row.messages
        else:
            rest += row.messages
    yield TENANT_UNPUBLISHED, [OTHER], rest


def _documents(database: Connection, _: Scope) -> Iterator[Sample]:
    for row in database.execute(_DOCUMENTS, {"most": MOST_DOCUMENTS_COUNTED}):
        yield DOCUMENTS, [row.status], row.documents


def _leases(database: Connection, _: Scope) -> Iterator[Sample]:
    for row in database.execute(_LEASES, {"most": MOST_COUNTED}):
        yield LEASES, [row.name, "held"], row.held
        yield LEASES, [row.name, "overdue"], row.overdue


def _breakers(database: Connection, _: Scope) -> Iterator[Sample]:
    yield BREAKERS_OPEN, [], database.scalar(_BREAKERS) or 0


def _schedule(database: Connection, _: Scope) -> Iterator[Sample]:
    for row in database.execute(_SCHEDULE):
        yield SCHEDULE_DONE, [row.name], row.total
        yield SCHEDULE_FAILED, [row.name], float(row.has_failed)
        if row.ago_seconds is not None:
            yield SCHEDULE_AGO_SECONDS, [row.name], row.ago_seconds


#: Each by itself: one that the database takes too long for costs none of the others.
DATABASE_READINGS: tuple[Callable[[Connection, Scope], Iterator[Sample]], ...] = (
    _queues, _consumers, _dead_letters, _tenants, _documents, _leases, _breakers, _schedule,
)  # fmt: skip


def broker_samples(connection: BrokerConnection, scope: Scope) -> list[Sample]:
    """What the broker knows.

    Raises:
        kombu.exceptions.OperationalError: it does not answer.
        redis.exceptions.RedisError: likewise.
    """
    return [(BROKER_BACKLOG, [queue], broker.backlog(connection, queue)) for queue in scope.queues]


#: All of them, in the order they are shown.
FIGURES = (
    UNPUBLISHED, IN_FLIGHT, OLDEST_SECONDS, TENANTS_AT_CAP, TENANT_UNPUBLISHED, BROKER_BACKLOG,
    CONSUMERS, DEAD_LETTERS, DOCUMENTS, LEASES, BREAKERS_OPEN,
    SCHEDULE_DONE, SCHEDULE_FAILED, SCHEDULE_AGO_SECONDS,
)  # fmt: skip
