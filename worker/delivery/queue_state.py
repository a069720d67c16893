"""Queues as they stand: what waits, for how long, and who takes it."""

from collections.abc import Sequence
from dataclasses import dataclass

from kombu import Connection as BrokerConnection
from sqlalchemy import Engine, text

from shared.contract import QUEUES, TASKS
from shared.sql import text_by_database
from worker.delivery.figures import MOST_COUNTED, measured
from worker.delivery.nodes import Node, Patience, State, observe
from worker.delivery.presence import backlog_of

# The bounds keep what is published small: this reads no backlog.
_PUBLISHED = text("""
    SELECT CAST(coalesce(extract(epoch FROM statement_timestamp() - min(available_at)), 0)
                AS float8) AS oldest_seconds
    FROM outbox
    WHERE published_at IS NOT NULL AND queue = :queue
      AND (lease_expires_at IS NULL OR lease_expires_at < statement_timestamp())
""")
_PAUSED = text("""
    SELECT queue FROM task_switches
    WHERE action = 'hold' AND queue IS NOT NULL
      AND task IS NULL AND tenant_id IS NULL AND subject_id IS NULL
""")
_SERVED = text_by_database(
    """
    SELECT DISTINCT unnest(queues) FROM worker_nodes
    WHERE seen_at > statement_timestamp() - make_interval(secs => :silent_seconds)
""",
    mariadb="""
    SELECT DISTINCT served.queue FROM worker_nodes, JSON_TABLE(
        queues, '$[*]' COLUMNS (queue VARCHAR(255) PATH '$')
    ) AS served
    WHERE seen_at > NOW(6) - INTERVAL :silent_seconds SECOND
""",
)


@dataclass(frozen=True, slots=True)
class QueueState:
    """One queue.

    Attributes:
        waiting: messages in the outbox that the broker has not got, counted up to
            ``figures.MOST_COUNTED``.
        in_broker: messages in the broker that no worker has taken.
        in_flight: messages of the outbox that the broker or a worker has.
        oldest_seconds: age of the oldest message that could go and that nobody has begun.
        consumers: live workers that serve it.
        slots: tasks that these can run at once.
        is_paused: whether a person paused it.
    """

    queue: str
    waiting: int
    in_broker: int
    in_flight: int
    oldest_seconds: float
    consumers: tuple[str, ...]
    slots: int
    is_paused: bool

    @property
    def depth(self) -> int:
        """Messages that nobody has begun, roughly."""
        return self.waiting + self.in_broker

    @property
    def is_counted_whole(self) -> bool:
        """Whether there are no more than ``waiting``."""
        return self.waiting < MOST_COUNTED


def queue_states(
    engine: Engine,
    broker: BrokerConnection,
    queues: Sequence[str],
    patience: Patience,
    host: str,
) -> list[QueueState]:
    """Every queue, in order.

    Args:
        engine: the database.
        broker: the broker.
        queues: those to look at.
        patience: when a worker counts as live.
        host: this one's name.

    Raises:
        SQLAlchemyError: the database does not answer.
        kombu.exceptions.OperationalError: the broker does not answer.
    """
    backlog = backlog_of(broker, queues)
    live = [
        node
        for node in observe(engine, backlog)
        if node.state(backlog, patience, host) is State.LIVE
    ]
    states = []
    with engine.connect() as database:
        database.execution_options(isolation_level="AUTOCOMMIT")
        paused = set(database.scalars(_PAUSED))
        for queue in queues:
            row = measured(database, queue)
            published = database.scalar(_PUBLISHED, {"queue": queue}) or 0.0
            crew = consumers_of(queue, live)
            states.append(
                QueueState(
                    queue=queue,
                    waiting=row.unpublished,
                    in_broker=backlog[queue],
                    in_flight=row.in_flight,
                    oldest_seconds=max(row.oldest_seconds, published),
                    consumers=tuple(node.name for node in crew),
                    slots=sum(node.concurrency for node in crew),
                    is_paused=queue in paused,
                )
            )
    return states


def consumers_of(queue: str, nodes: Sequence[Node]) -> list[Node]:
    """The workers among these that serve a queue."""
    return [node for node in nodes if queue in node.queues]


def unserved(nodes: Sequence[Node]) -> list[str]:
    """The queues that tasks are routed to and that none of these workers serves."""
    routed = {task.queue for task in TASKS}
    return [queue for queue in QUEUES if queue in routed and not consumers_of(queue, nodes)]


def unserved_now(engine: Engine, silent_seconds: float) -> list[str]:
    """The queues that tasks are routed to and that no worker serves which reported lately.

    Raises:
        SQLAlchemyError: the database does not answer.
    """
    with engine.connect() as database:
        served = set(database.scalars(_SERVED, {"silent_seconds": silent_seconds}))
    routed = {task.queue for task in TASKS}
    return [queue for queue in QUEUES if queue in routed - served]
