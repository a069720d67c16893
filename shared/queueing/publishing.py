"""Hands rows of the outbox to the broker: by a producer right after its commit, by the relay later.

At least once: a row is marked as published after the broker has it, so a process
that dies in between publishes twice, which a worker's pick-up notices.
"""

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from celery import Celery
from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import RedisError
from sqlalchemy import Connection, text

logger = logging.getLogger(__name__)

#: The PostgreSQL channel that wakes the relays.
CHANNEL = "rag_worker_outbox"
#: What a broker that is away raises at a publish.
BROKER_ERRORS = (BrokerError, RedisError, OSError)

#: A tenant's n-th unfinished message goes behind other tenants' first ones: Redis serves
#: the lower number first. Bounds of n, and the broker's four priority steps.
_STEPS = ((1, 0), (4, 3), (16, 6))
_LAST_STEP = 9

_OWN = text("""
    WITH own AS MATERIALIZED (
        SELECT id, task, queue, args, kwargs, tenant_id, sequence, attempts
        FROM outbox
        WHERE id = ANY(CAST(:ids AS uuid[])) AND published_at IS NULL AND available_at <= now()
        FOR UPDATE SKIP LOCKED
    ),
    turns AS (
        SELECT own.*,
               row_number() OVER (PARTITION BY queue, tenant_id ORDER BY sequence) + (
                   SELECT count(*) FROM outbox AS busy
                   WHERE busy.published_at IS NOT NULL
                     AND busy.queue = own.queue AND busy.tenant_id = own.tenant_id
               ) AS turn,
               row_number() OVER (PARTITION BY queue ORDER BY sequence) + (
                   SELECT count(*) FROM outbox AS busy
                   WHERE busy.published_at IS NOT NULL AND busy.queue = own.queue
               ) AS place
        FROM own
    )
    SELECT id, task, queue, args, kwargs, tenant_id, attempts, turn FROM turns
    WHERE turn <= :tenant_cap AND place <= :high_water_mark
    ORDER BY sequence
""")
_MARK = text("""
    UPDATE outbox SET published_at = statement_timestamp()
    WHERE id = ANY(CAST(:ids AS uuid[])) AND published_at IS NULL
""")
_HELD = text("SELECT 1 FROM task_switches LIMIT 1")


@dataclass(frozen=True, slots=True)
class Publishable:
    """A row as the broker needs it."""

    id: UUID
    task: str
    queue: str
    args: list[Any]
    kwargs: dict[str, Any]
    tenant_id: UUID
    attempts: int
    #: Which unfinished message of its tenant this is, from 1.
    turn: int


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the broker may hold.

    Attributes:
        tenant_cap: published and unfinished messages of one tenant in one queue.
        high_water_mark: the same, of all tenants.
    """

    tenant_cap: int = 64
    high_water_mark: int = 1000


def broker_priority(turn: int) -> int:
    """The step of a tenant's n-th unfinished message: the first goes before any other's second."""
    return next((step for bound, step in _STEPS if turn <= bound), _LAST_STEP)


def publish_own(connection: Connection, celery: Celery, ids: Sequence[UUID], bounds: Bounds) -> int:
    """Publish rows this process has just committed, as far as the bounds allow.

    What is left is the relay's, which is woken. While a switch holds or skips
    anything all is left to the relay: it knows the rules.

    Returns:
        How many were published.
    """
    if connection.execute(_HELD).one_or_none() is not None:
        wake_relays(connection)
        return 0
    rows = connection.execute(
        _OWN,
        {
            "ids": list(map(str, ids)),
            "tenant_cap": bounds.tenant_cap,
            "high_water_mark": bounds.high_water_mark,
        },
    )
    with celery.producer_or_acquire() as producer:
        sent = publish(connection, celery, producer, [Publishable(*row) for row in rows])
    if sent < len(ids):
        wake_relays(connection)
    return sent


def publish(
    connection: Connection, celery: Celery, producer: Any, messages: Iterable[Publishable]
) -> int:
    """Publish rows that the connection's transaction has locked, and mark them.

    A broker that goes away ends it early: what went out is marked, the rest stays.

    Returns:
        How many were published.
    """
    sent: list[str] = []
    try:
        for message in messages:
            send(celery, producer, message)
            sent.append(str(message.id))
    except BROKER_ERRORS as error:
        logger.warning(
            "the broker does not answer, messages wait in the outbox: %s",
            error,
            extra={"action": "outbox.not_published"},
        )
    if sent:
        connection.execute(_MARK, {"ids": sent})
    return len(sent)


def send(celery: Celery, producer: Any, message: Publishable) -> None:
    """Publish one message under its own id."""
    celery.send_task(
        message.task,
        args=message.args,
        kwargs=message.kwargs,
        task_id=str(message.id),
        queue=message.queue,
        priority=broker_priority(message.turn),
        retries=message.attempts,
        headers={"outbox": True, "tenant_id": str(message.tenant_id)},
        producer=producer,
        retry=True,
        retry_policy={"max_retries": 1, "interval_start": 0, "interval_max": 0},
    )


def wake_relays(connection: Connection) -> None:
    """Tell the relays, at commit, that there is something to publish."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_notify(:channel, '')"), {"channel": CHANNEL})


def plain_json(value: Any) -> Any:
    """Arguments as the JSON that the broker would carry.

    Raises:
        TypeError: JSON cannot say it.
    """
    from kombu.utils.json import dumps

    return json.loads(dumps(value))
