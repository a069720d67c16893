"""A worker's hold on one outbox message: picked up, then done, handed back or buried.

Each write is fenced by the message's lease, and none waits for the disk: what a
crash of the database takes back is done again, and the work itself notices.
"""

import traceback
from dataclasses import dataclass
from typing import Any, NoReturn
from uuid import UUID, uuid4

from sqlalchemy import Connection, Engine, text

from shared.errors import LeaseLost, Superseded
from shared.models import OutboxMessage
from shared.submitting.files import storable
from worker.delivery.lease import Lease, owner

_PICK_UP = text("""
    SET LOCAL synchronous_commit = off;
    UPDATE outbox
    SET lease_token = lease_token + 1, attempts = attempts + 1, lease_owner = :owner,
        deaths = deaths + CAST(lease_expires_at IS NOT NULL AS int),
        lease_expires_at = statement_timestamp() + make_interval(secs => :seconds),
        published_at = coalesce(published_at, statement_timestamp())
    WHERE id = :id AND (lease_expires_at IS NULL OR lease_expires_at < now())
    RETURNING lease_token, attempts, deaths, tenant_id, error,
              extract(epoch FROM now() - created_at) AS age_seconds
""")
_EXISTS = text("SELECT lease_owner FROM outbox WHERE id = :id")
_DONE = text("""
    SET LOCAL synchronous_commit = off;
    DELETE FROM outbox WHERE id = :id AND lease_token = :token RETURNING id
""")
_HAND_BACK = text("""
    SET LOCAL synchronous_commit = off;
    UPDATE outbox
    SET lease_expires_at = NULL, lease_owner = NULL, published_at = NULL, redeliveries = 0,
        available_at = statement_timestamp() + make_interval(secs => :delay_seconds),
        attempts = attempts - :uncounted,
        error = coalesce(:error, error)
    WHERE id = :id AND lease_token = :token
    RETURNING id
""")
_ADOPT = text("""
    INSERT INTO outbox (id, tenant_id, task, queue, args, kwargs, available_at, attempts, error)
    VALUES (:id, :tenant_id, :task, :queue, CAST(:args AS jsonb), CAST(:kwargs AS jsonb),
            statement_timestamp() + make_interval(secs => :delay_seconds), 1, :error)
    ON CONFLICT (id) DO NOTHING
""")
_DECLINE = text("""
    SET LOCAL synchronous_commit = off;
    UPDATE outbox SET published_at = NULL, redeliveries = 0
    WHERE id = :id AND (lease_expires_at IS NULL OR lease_expires_at < now())
""")
_BURY = text("""
    WITH done AS (
        DELETE FROM outbox WHERE id = :message_id AND lease_token = :token
        RETURNING id, tenant_id, task, queue, args, kwargs, attempts
    )
    INSERT INTO dead_letters (id, message_id, tenant_id, task, queue, args, kwargs, attempts,
                              exception, reason, traceback)
    SELECT :id, id, tenant_id, task, queue, args, kwargs, attempts,
           :exception, :reason, :traceback FROM done
    RETURNING id
""")


@dataclass(frozen=True, slots=True)
class PickedUp:
    """A message in this worker's hands."""

    lease: Lease
    tenant_id: UUID
    #: Since it was accepted.
    age_seconds: float
    last_error: str | None

    @property
    def id(self) -> UUID:
        """The message's id."""
        return self.lease.row_id


def pick_up(engine: Engine, message_id: UUID, lease_seconds: float) -> PickedUp:
    """Claim a message; counts an attempt.

    Raises:
        Superseded: it is done already, or another worker has it.
    """
    with engine.begin() as connection:
        values = {"id": message_id, "owner": owner(), "seconds": lease_seconds}
        row = connection.execute(_PICK_UP, values).one_or_none()
        if row is None:
            _explain(connection, message_id)
    lease = Lease(
        OutboxMessage, message_id, row.lease_token, row.attempts, row.deaths, lease_seconds
    )
    return PickedUp(lease, row.tenant_id, float(row.age_seconds), row.error)


def _explain(connection: Connection, message_id: UUID) -> NoReturn:
    row = connection.execute(_EXISTS, {"id": message_id}).one_or_none()
    if row is None:
        raise Superseded(f"message {message_id} is done already")
    raise Superseded(f"message {message_id} is in the hands of {row.lease_owner}")


def decline(engine: Engine, message_id: UUID) -> None:
    """Put a message back that nobody has picked up: no attempt, no delay."""
    with engine.begin() as connection:
        connection.execute(_DECLINE, {"id": message_id})


def finish(engine: Engine, message: PickedUp) -> None:
    """The task is done: the message goes. A newer owner's stays."""
    with engine.begin() as connection:
        connection.execute(_DONE, {"id": message.id, "token": message.lease.token})


def hand_back(
    engine: Engine,
    message: PickedUp,
    delay_seconds: float = 0.0,
    error: str | None = None,
    *,
    counts: bool = True,
) -> None:
    """Put the message back into the outbox, to be published after the delay.

    Args:
        engine: the database.
        message: ours.
        delay_seconds: from now, by the database's clock.
        error: what stopped this attempt.
        counts: whether the attempt counts.

    Raises:
        LeaseLost: another worker has it already.
    """
    values = {
        "id": message.id,
        "token": message.lease.token,
        "delay_seconds": delay_seconds,
        "error": error and storable(error),
        "uncounted": 0 if counts else 1,
    }
    with engine.begin() as connection:
        if connection.execute(_HAND_BACK, values).one_or_none() is None:
            raise LeaseLost(f"message {message.id}: another worker has it already")


def bury(engine: Engine, message: PickedUp, error: BaseException) -> UUID | None:
    """Make the message a dead letter.

    Returns:
        The letter's id; ``None`` when another worker has the message.
    """
    values = {
        "id": uuid4(),
        "message_id": message.id,
        "token": message.lease.token,
        "exception": type(error).__qualname__,
        "reason": storable(str(error) or type(error).__qualname__),
        "traceback": storable("".join(traceback.format_exception(error))),
    }
    with engine.begin() as connection:
        return connection.execute(_BURY, values).scalar_one_or_none()


def adopt(engine: Engine, values: dict[str, Any]) -> None:
    """Write a message that came by plain ``.delay()`` into the outbox, to be tried again."""
    with engine.begin() as connection:
        connection.execute(_ADOPT, values)
