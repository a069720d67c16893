"""Finds messages that are stuck: taken by a worker that died, or lost with the broker.

It alone is enough after the broker lost everything. A message that merely waits
in a broker queue is left alone, for however long.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kombu import Connection as BrokerConnection
from sqlalchemy import Connection, Engine, text

from shared.queueing.publishing import wake_relays
from worker.delivery import broker, metrics

logger = logging.getLogger(__name__)

#: A message nobody starts is looked for ever more rarely: up to 2 to this power.
_RAREST = 6

_EXPIRED = text("""
    UPDATE outbox SET published_at = NULL
    WHERE published_at IS NOT NULL AND lease_expires_at < now()
    RETURNING id
""")
_UNSTARTED = text("""
    SELECT id FROM outbox
    WHERE published_at IS NOT NULL AND lease_expires_at IS NULL
      AND published_at < now() - make_interval(
          secs => :seconds * power(2, least(redeliveries, :rarest))
      )
    ORDER BY published_at LIMIT 10000
""")
_LOST = text("""
    UPDATE outbox SET published_at = NULL, redeliveries = redeliveries + 1
    WHERE id = ANY(CAST(:ids AS uuid[])) AND published_at IS NOT NULL
      AND lease_expires_at IS NULL
    RETURNING id
""")


@dataclass(frozen=True, slots=True)
class Swept:
    """How many messages are published again."""

    #: Their worker died, or lost the database.
    expired: int
    #: The broker has them no more, or a worker that has not begun them.
    lost: int


def sweep_messages(
    engine: Engine, connection: BrokerConnection, queues: Sequence[str], unstarted_seconds: float
) -> Swept:
    """Publish again what got stuck.

    Args:
        engine: the database.
        connection: the broker.
        queues: those to look into.
        unstarted_seconds: how long a published message may go without a start
            before the broker is asked whether it still has it.

    Raises:
        SQLAlchemyError: the database does not answer.
        kombu.exceptions.OperationalError: the broker does not answer.
    """
    with engine.begin() as database:
        expired = len(database.execute(_EXPIRED).all())
        unstarted = _unstarted(database, unstarted_seconds)
        if expired:
            wake_relays(database)
    lost = 0
    if unstarted:
        # Asked after: a message published meanwhile is not among the unstarted.
        gone = sorted(broker.missing(connection, queues, unstarted))
        with engine.begin() as database:
            lost = len(database.execute(_LOST, {"ids": gone}).all())
            if lost:
                wake_relays(database)
    metrics.RELAY_REPUBLISHED.add(expired, "worker_died")
    metrics.RELAY_REPUBLISHED.add(lost, "message_lost")
    if expired or lost:
        logger.warning(
            "published again: %s of dead workers, %s lost on the way",
            expired,
            lost,
            extra={"action": "sweeper.messages"},
        )
    return Swept(expired, lost)


def _unstarted(database: Connection, seconds: float) -> set[str]:
    values: dict[str, Any] = {"seconds": seconds, "rarest": _RAREST}
    return {str(found) for found in database.scalars(_UNSTARTED, values)}
