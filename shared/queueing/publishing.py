"""Hands rows of the outbox to the broker: by a producer right after its commit, by the relay later.

At least once: a row is marked as published after the broker has it, so a process
that dies in between publishes twice, which a worker's pick-up notices.
"""

import json
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

from celery import Celery
from celery.signals import before_task_publish
from kombu.exceptions import BatchPublishError  # type: ignore[attr-defined]
from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import RedisError
from sqlalchemy import Connection, text

from shared.queueing import trace_context

logger = logging.getLogger(__name__)

#: The PostgreSQL channel that wakes the relays.
CHANNEL = "rag_worker_outbox"
#: Try again without a pause: somebody waits for the answer.
_AT_ONCE = {"interval_start": 0, "interval_step": 0, "interval_max": 0}
#: What a broker that is away raises at a publish.
BROKER_ERRORS = (BrokerError, RedisError, OSError)

#: Messages of a round trip: few enough that what a broker lost on the way is soon said again.
_TOGETHER = 100

#: A tenant's n-th unfinished message goes behind other tenants' first ones: Redis serves
#: the lower number first. Bounds of n, and the broker's four priority steps.
_STEPS = ((1, 0), (4, 3), (16, 6))
_LAST_STEP = 9

_OWN = text("""
    WITH own AS MATERIALIZED (
        SELECT id, task, queue, args, kwargs, tenant_id, priority, sequence, attempts, headers
        FROM outbox
        WHERE id = ANY(CAST(:ids AS uuid[])) AND published_at IS NULL AND available_at <= now()
        FOR UPDATE SKIP LOCKED
    ),
    busy AS MATERIALIZED (
        SELECT queue, tenant_id, priority, count(*) AS messages FROM outbox
        WHERE published_at IS NOT NULL AND queue IN (SELECT queue FROM own)
        GROUP BY queue, tenant_id, priority
    ),
    turns AS (
        SELECT own.*,
               row_number() OVER (
                   PARTITION BY queue, tenant_id ORDER BY priority DESC, sequence
               ) + coalesce((
                   SELECT CAST(sum(messages) AS bigint) FROM busy
                   WHERE busy.queue = own.queue AND busy.tenant_id = own.tenant_id
                     AND busy.priority >= own.priority
               ), 0) AS turn,
               row_number() OVER (PARTITION BY queue ORDER BY sequence) AS place
        FROM own
    )
    SELECT id, task, queue, args, kwargs, tenant_id, attempts, turn, headers FROM turns
    WHERE turn <= :tenant_cap
      AND place <= :high_water_mark - (
          SELECT coalesce(sum(messages), 0) FROM busy WHERE busy.queue = turns.queue
      )
    ORDER BY sequence
""")
_MARK = text("""
    UPDATE outbox SET published_at = statement_timestamp()
    WHERE id = ANY(CAST(:ids AS uuid[])) AND published_at IS NULL
""")
_POSTPONE = text("""
    UPDATE outbox
    SET available_at = statement_timestamp() + interval '60 seconds', error = :error
    WHERE id = :id
""")
_HELD = text("SELECT 1 FROM task_switches LIMIT 1")
#: A producer that found the broker away leaves its messages to the relays for so long:
#: each attempt costs its caller seconds.
_LEFT_TO_RELAYS_SECONDS = 5.0


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
    #: What it carries of its producer's trace.
    headers: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the broker may hold.

    Attributes:
        tenant_cap: published and unfinished messages of one tenant in one queue; those of
            a lower priority do not count against one of a higher. For a tenant that waits
            alone there, the relay adds a message for each slot of the queue's live workers.
        high_water_mark: the same, of all tenants.
    """

    tenant_cap: int = 64
    high_water_mark: int = 1000


def broker_priority(turn: int) -> int:
    """The step of a tenant's n-th unfinished message: the first goes before any other's second."""
    return next((step for bound, step in _STEPS if turn <= bound), _LAST_STEP)


#: Until when each Celery app's producers leave their messages to the relays.
_avoided_until: "WeakKeyDictionary[Celery, float]" = WeakKeyDictionary()


def publish_own(connection: Connection, celery: Celery, ids: Sequence[UUID], bounds: Bounds) -> int:
    """Publish rows this process has just committed, as far as the bounds allow.

    What is left is the relay's, which is woken. While a switch holds or skips
    anything all is left to the relay: it knows the rules. Producers that commit at
    the same moment do not see each other's messages: together they may pass a bound.

    Returns:
        How many were published.
    """
    is_away = time.monotonic() < _avoided_until.get(celery, -math.inf)
    if is_away or connection.execute(_HELD).one_or_none() is not None:
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
    messages = [Publishable(*row) for row in rows]
    sent = 0
    if messages:
        with celery.producer_or_acquire() as producer:
            sent = publish(connection, celery, producer, messages)
        if not sent:
            _avoided_until[celery] = time.monotonic() + _LEFT_TO_RELAYS_SECONDS
    if sent < len(ids):
        wake_relays(connection)
    return sent


def publish(
    connection: Connection, celery: Celery, producer: Any, messages: Sequence[Publishable]
) -> int:
    """Publish rows that the connection's transaction has locked, and mark them.

    A broker that goes away ends it early: what went out is marked, the rest stays.
    A message that cannot be published for any other reason stands back for a minute.

    Returns:
        How many were published.
    """
    sent: list[str] = []
    try:
        if messages:
            # Left alone, kombu tries for as long as its connection timeout is.
            producer.connection.ensure_connection(max_retries=1, **_AT_ONCE)
        for start in range(0, len(messages), _TOGETHER):
            together = messages[start : start + _TOGETHER]
            sent += _sent(connection, celery, producer, together)
    except BROKER_ERRORS as error:
        logger.warning(
            "the broker does not answer, messages wait in the outbox: %s",
            error,
            extra={"action": "outbox.not_published"},
        )
    if sent:
        connection.execute(_MARK, {"ids": sent})
    return len(sent)


def _sent(
    connection: Connection, celery: Celery, producer: Any, messages: Sequence[Publishable]
) -> list[str]:
    """Publish in one round trip; of a connection that was lost meanwhile, once more."""
    unfit: dict[UUID, Exception] = {}

    def publish_all() -> None:
        try:
            with producer.batch(len(messages)):
                for message in messages:
                    if message.id not in unfit:
                        _add(celery, producer, message, unfit)
        except BatchPublishError as error:
            raise error.__cause__ or error from error

    producer.connection.ensure(producer, publish_all, max_retries=1, **_AT_ONCE)()
    for message_id, error in unfit.items():
        # Else it would come first in every pass, and stop all behind it.
        connection.execute(_POSTPONE, {"id": message_id, "error": repr(error)})
    return [str(one.id) for one in messages if one.id not in unfit]


def _add(celery: Celery, producer: Any, message: Publishable, unfit: dict[UUID, Exception]) -> None:
    try:
        send(celery, producer, message)
    except BROKER_ERRORS:
        raise
    except Exception as error:
        logger.exception(
            "message %s of %s cannot be published",
            message.id,
            message.task,
            extra={"action": "outbox.unpublishable"},
        )
        unfit[message.id] = error


def send(celery: Celery, producer: Any, message: Publishable) -> None:
    """Publish one message under its own id."""
    carried = trace_context.sound(message.headers or {})
    with trace_context.publishing(message.task, str(message.id), carried):
        celery.send_task(
            message.task,
            args=message.args,
            kwargs=message.kwargs,
            task_id=str(message.id),
            queue=message.queue,
            priority=broker_priority(message.turn),
            retries=message.attempts,
            headers={"outbox": True, "tenant_id": str(message.tenant_id), **carried},
            producer=producer,
            # By the batch it is in.
            retry=False,
        )


@before_task_publish.connect
def _carry(headers: Any = None, **_: Any) -> None:
    """What is sent past the outbox belongs to its sender's trace too."""
    if isinstance(headers, dict):
        for name, value in trace_context.carried().items():
            headers.setdefault(name, value)


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
