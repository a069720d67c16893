"""A worker's hold on one outbox message: picked up, then done, handed back or buried.

A message that came by plain ``.delay()`` has no row: one is made when it has to wait.

Each write is fenced by the message's lease, and none waits for the disk: what a
crash of the database takes back is done again, and the work itself notices.
"""

import json
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn, TypeVar
from uuid import UUID, uuid4

from sqlalchemy import Connection, Engine, TextClause, text
from sqlalchemy.exc import DBAPIError

from shared.errors import LeaseLost, Superseded
from shared.models import NO_TENANT, OutboxMessage
from shared.queueing.publishing import plain_json, wake_relays
from shared.submitting.files import storable
from worker.delivery.lease import Lease, owner
from worker.delivery.pickup_groups import finished, picked_up
from worker.delivery.single import single_statements

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
        args = coalesce(CAST(:args AS jsonb), args),
        kwargs = coalesce(CAST(:kwargs AS jsonb), kwargs),
        error = coalesce(:error, error)
    WHERE id = :id AND lease_token = :token
    RETURNING id
""")
_OWNER = """
    coalesce(
        CAST(:tenant_id AS uuid),
        (SELECT tenant_id FROM datasets WHERE id = CAST(:dataset_id AS uuid)),
        CAST(:nobody AS uuid)
    )
"""
# Given up by a worker that died before it could acknowledge, it must not come back.
_NOT_BURIED = "NOT EXISTS (SELECT FROM dead_letters WHERE message_id = CAST(:id AS uuid))"
_ADOPT = text(f"""
    INSERT INTO outbox (id, tenant_id, task, queue, args, kwargs, available_at, attempts, error,
                        headers)
    SELECT CAST(:id AS uuid), {_OWNER}, :task, :queue, CAST(:args AS jsonb),
           CAST(:kwargs AS jsonb),
           statement_timestamp() + make_interval(secs => :delay_seconds), :attempts, :error,
           CAST(:headers AS jsonb)
    WHERE {_NOT_BURIED}
    ON CONFLICT (id) DO NOTHING
""")
_BURY_UNWRITTEN = text(f"""
    INSERT INTO dead_letters (id, message_id, tenant_id, task, queue, args, kwargs, attempts,
                              exception, reason, traceback, headers)
    SELECT CAST(:letter_id AS uuid), CAST(:id AS uuid), {_OWNER}, :task, :queue,
           CAST(:args AS jsonb), CAST(:kwargs AS jsonb), :attempts,
           :exception, :reason, :traceback, CAST(:headers AS jsonb)
    WHERE {_NOT_BURIED}
    RETURNING id
""")
_TENANT = text("SELECT tenant_id FROM datasets WHERE id = :dataset_id")
_DECLINE = text("""
    SET LOCAL synchronous_commit = off;
    UPDATE outbox SET published_at = NULL, redeliveries = 0
    WHERE id = :id AND (lease_expires_at IS NULL OR lease_expires_at < now())
""")
_BURY = text("""
    WITH done AS (
        DELETE FROM outbox WHERE id = :message_id AND lease_token = :token
        RETURNING id, tenant_id, task, queue, args, kwargs, attempts, headers
    )
    INSERT INTO dead_letters (id, message_id, tenant_id, task, queue, args, kwargs, attempts,
                              exception, reason, traceback, headers)
    SELECT :letter_id, id, tenant_id, task, queue, args, kwargs, attempts - :uncounted,
           :exception, :reason, :traceback, headers FROM done
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

    def claim(connection: Connection) -> Any:
        values = {"id": message_id, "owner": owner(), "seconds": lease_seconds}
        row = connection.execute(_PICK_UP, values).one_or_none()
        if row is None:
            _explain(connection, message_id)
        return row

    row = picked_up(engine, lease_seconds)(message_id)
    if row is None:
        row = _twice(partial(single_statements, engine), claim)
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
    _write(engine, _DECLINE, {"id": message_id})


def finish(engine: Engine, message: PickedUp) -> None:
    """The task is done: the message goes. A newer owner's stays."""
    token = message.lease.token
    if finished(engine)((message.id, token)) is None:
        _write(engine, _DONE, {"id": message.id, "token": token})


def hand_back(
    engine: Engine,
    message: PickedUp,
    delay_seconds: float = 0.0,
    error: str | None = None,
    *,
    counts: bool = True,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
) -> None:
    """Put the message back into the outbox, to be published after the delay.

    Args:
        engine: the database.
        message: ours.
        delay_seconds: from now, by the database's clock.
        error: what stopped this attempt.
        counts: whether the attempt counts.
        args: what the task is called with then; the same as now, when unset.
        kwargs: the same by name.

    Raises:
        LeaseLost: another worker has it already.
    """
    values = {
        "id": message.id,
        "token": message.lease.token,
        "delay_seconds": delay_seconds,
        "error": error and storable(error),
        "uncounted": 0 if counts else 1,
        "args": None if args is None else json.dumps(plain_json(list(args))),
        "kwargs": None if kwargs is None else json.dumps(plain_json(dict(kwargs))),
    }
    if _write(engine, _HAND_BACK, values) is None:
        raise LeaseLost(f"message {message.id}: another worker has it already")


def bury(
    engine: Engine, message: PickedUp, error: BaseException, *, counts: bool = True
) -> UUID | None:
    """Make the message a dead letter; ``counts`` says whether this attempt does.

    Returns:
        The letter's id; ``None`` when another worker has the message.
    """
    values = {
        "message_id": message.id,
        "token": message.lease.token,
        "uncounted": 0 if counts else 1,
    }
    letter_id: UUID | None = _write(engine, _BURY, values | _epitaph(error))
    return letter_id


def adopt(
    engine: Engine,
    row: Mapping[str, Any],
    *,
    attempts: int,
    delay_seconds: float = 0.0,
    error: str | None = None,
) -> None:
    """Write a message that came by plain ``.delay()`` into the outbox, if it is not there.

    Args:
        engine: the database.
        row: ``Delivered.row()``.
        attempts: how often it was tried so far.
        delay_seconds: published no earlier than this after now.
        error: what stopped the last attempt.
    """
    values = {
        **row,
        "nobody": NO_TENANT,
        "attempts": attempts,
        "delay_seconds": delay_seconds,
        "error": error and storable(error),
    }

    def write(connection: Connection) -> None:
        connection.execute(_ADOPT, values)
        wake_relays(connection)

    _twice(engine.begin, write)


def bury_unwritten(
    engine: Engine, row: Mapping[str, Any], error: BaseException, attempts: int
) -> UUID | None:
    """Make a message that came by plain ``.delay()`` a dead letter.

    Returns:
        The letter's id; ``None`` when there is one already.
    """
    values = {**row, "nobody": NO_TENANT, "attempts": attempts}
    letter_id: UUID | None = _write(engine, _BURY_UNWRITTEN, values | _epitaph(error))
    return letter_id


def tenant_of(engine: Engine, dataset_id: UUID) -> str | None:
    """Whose dataset it is; ``None`` when there is no such dataset."""
    found = _write(engine, _TENANT, {"dataset_id": dataset_id})
    return None if found is None else str(found)


def _epitaph(error: BaseException) -> dict[str, Any]:
    return {
        "letter_id": uuid4(),
        "exception": type(error).__qualname__[:255],
        "reason": storable(str(error) or type(error).__qualname__),
        "traceback": storable("".join(traceback.format_exception(error))),
    }


_Result = TypeVar("_Result")


def _write(engine: Engine, statement: TextClause, values: Mapping[str, Any]) -> Any:
    def write(connection: Connection) -> Any:
        done = connection.execute(statement, values)
        return done.scalar_one_or_none() if done.returns_rows else None

    return _twice(partial(single_statements, engine), write)


def _twice(
    opened: Callable[[], AbstractContextManager[Connection]],
    work: Callable[[Connection], _Result],
) -> _Result:
    try:
        with opened() as connection:
            return work(connection)
    except DBAPIError as error:
        # The pool's connection had died: it has dropped all of them by now, a new one may work.
        if not error.connection_invalidated:
            raise
    with opened() as connection:
        return work(connection)
