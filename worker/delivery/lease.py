"""Leases with fencing tokens: one worker at a time, and a lost lease writes nothing.

The claim takes the next ``lease_token``; every later write of that claim is
conditional on it. All times are the database's clock. Source of the idea:
M. Kleppmann, "How to do distributed locking", 2016 (fencing tokens).
"""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    Connection,
    Integer,
    Row,
    Table,
    Update,
    any_,
    bindparam,
    func,
    inspect,
    or_,
    select,
    update,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.orm import Session

from shared.errors import LeaseLost
from shared.models.leased import Leased


@dataclass(frozen=True, slots=True)
class Ago:
    """A value for a time column: that many seconds ago, by the database's clock."""

    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write to one row while its token is the newest."""

    model: type[Leased]
    row_id: UUID
    token: int
    #: Which pick-up this is, from 1.
    attempt: int
    #: How many earlier ones ended without a word: the worker died, froze or lost the database.
    deaths: int
    seconds: float


class _Node:
    name = platform.node()


def name_node(name: str) -> None:
    """Say under which node name this process and its children hold leases; before any fork."""
    _Node.name = name


def owner() -> str:
    """This process as the holder of leases: ``node/pid``."""
    return owner_of(os.getpid())


def owner_of(pid: int) -> str:
    """A process of this node as the holder of leases."""
    return f"{_Node.name}/{pid}"[-255:]


def claim(
    session: Session | Connection,
    model: type[Leased],
    row_id: UUID,
    seconds: float,
    *conditions: ColumnElement[bool],
    **values: Any,
) -> Lease | None:
    """Take the row's lease if it is free or has run out; counts an attempt.

    Args:
        session: its transaction is the claim's; commit before working.
        model: a table with the lease columns.
        row_id: which row.
        seconds: life of the lease without a renewal.
        conditions: what else must hold for the row to be claimable.
        values: columns written with the claim; an ``Ago`` is a time.

    Returns:
        The lease, or ``None`` when the row is gone, held or not claimable.
    """
    returned = _lease_columns(table_of(model))
    row = _claimed(session, model, row_id, seconds, conditions, values, returned)
    return None if row is None else _lease(model, row_id, seconds, row)


def claim_row(
    session: Session | Connection,
    model: type[Leased],
    row_id: UUID,
    seconds: float,
    *conditions: ColumnElement[bool],
    **values: Any,
) -> tuple[Lease, Row[Any]] | None:
    """As ``claim``; returns the whole row too, as the claim left it."""
    returned = tuple(table_of(model).c)
    row = _claimed(session, model, row_id, seconds, conditions, values, returned)
    return None if row is None else (_lease(model, row_id, seconds, row), row)


def claim_rows(
    connection: Connection,
    model: type[Leased],
    row_ids: Sequence[UUID],
    seconds: float,
    conditions: tuple[ColumnElement[bool], ...],
    **values: Any,
) -> dict[UUID, tuple[Lease, Row[Any]]]:
    """As ``claim_row`` for many, in one statement; a row that anybody has locked is left out."""
    statement = _claim_many(table_of(model), conditions, _kinds(values))
    parameters = {
        "row_ids_": list(row_ids),
        "seconds_": seconds,
        "owner_": owner(),
        **_plain(values),
    }
    rows = connection.execute(statement, parameters).all()
    return {row.id: (_lease(model, row.id, seconds, row), row) for row in rows}


def renew(session: Session | Connection, lease: Lease, **values: Any) -> None:
    """Extend the lease and write ``values`` to its row, in the caller's transaction.

    Raises:
        LeaseLost: another worker has claimed the row since, or it is gone.
    """
    _write(session, lease, lease_expires_at=Ago(-lease.seconds), **values)


def release(session: Session | Connection, lease: Lease, **values: Any) -> None:
    """Give the lease back and write ``values``, in the caller's transaction.

    Raises:
        LeaseLost: another worker has claimed the row since, or it is gone.
    """
    _write(session, lease, lease_expires_at=None, lease_owner=None, **values)


def _write(session: Session | Connection, lease: Lease, **values: Any) -> None:
    table = table_of(lease.model)
    statement = _fenced(table, _kinds(values))
    parameters = {"row_id_": lease.row_id, "token_": lease.token, **_plain(values)}
    if _connection(session).execute(statement, parameters).one_or_none() is None:
        raise LeaseLost(f"{table.name} {lease.row_id}: token {lease.token} is no longer the newest")


def _claimed(
    session: Session | Connection,
    model: type[Leased],
    row_id: UUID,
    seconds: float,
    conditions: tuple[ColumnElement[bool], ...],
    values: dict[str, Any],
    returned: tuple[Column[Any], ...],
) -> Row[Any] | None:
    statement = _claim(table_of(model), conditions, _kinds(values), returned)
    parameters = {"row_id_": row_id, "seconds_": seconds, "owner_": owner(), **_plain(values)}
    return _connection(session).execute(statement, parameters).one_or_none()


def _lease(model: type[Leased], row_id: UUID, seconds: float, row: Row[Any]) -> Lease:
    return Lease(model, row_id, row.lease_token, row.attempts, row.deaths, seconds)


def _lease_columns(table: Table) -> tuple[Column[Any], ...]:
    return table.c.lease_token, table.c.attempts, table.c.deaths


def _connection(given: Session | Connection) -> Connection:
    return given if isinstance(given, Connection) else given.connection()


# Statements are built once a shape: building them was half the time of a small document's claim.
_Kinds = tuple[tuple[str, bool], ...]


def _kinds(values: dict[str, Any]) -> _Kinds:
    return tuple((name, isinstance(value, Ago)) for name, value in values.items())


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {
        f"{name}_value": value.seconds if isinstance(value, Ago) else value
        for name, value in values.items()
    }


def _assigned(kinds: _Kinds) -> dict[str, Any]:
    return {
        name: func.statement_timestamp() - _seconds(bindparam(f"{name}_value"))
        if is_time
        else bindparam(f"{name}_value")
        for name, is_time in kinds
    }


def _seconds(parameter: Any) -> Any:
    return func.make_interval(0, 0, 0, 0, 0, 0, parameter)


@lru_cache(maxsize=256)
def _claim(
    table: Table,
    conditions: tuple[ColumnElement[bool], ...],
    kinds: _Kinds,
    returned: tuple[Column[Any], ...],
) -> Update:
    is_wanted = table.c.id == bindparam("row_id_")
    taken = _taking(table).where(is_wanted, _is_free(table), *conditions)
    return taken.values(**_assigned(kinds)).returning(*returned)


@lru_cache(maxsize=64)
def _claim_many(table: Table, conditions: tuple[ColumnElement[bool], ...], kinds: _Kinds) -> Update:
    wanted = any_(bindparam("row_ids_", type_=ARRAY(table.c.id.type)))
    free = (
        select(table.c.id)
        .where(table.c.id == wanted, _is_free(table), *conditions)
        .with_for_update(skip_locked=True)
        .cte("free")
    )
    taken = _taking(table).where(table.c.id == free.c.id)
    return taken.values(**_assigned(kinds)).returning(*table.c)


def _is_free(table: Table) -> ColumnElement[bool]:
    return or_(table.c.lease_expires_at.is_(None), table.c.lease_expires_at < func.now())


def _taking(table: Table) -> Update:
    return update(table).values(
        lease_token=table.c.lease_token + 1,
        lease_expires_at=func.statement_timestamp() + _seconds(bindparam("seconds_")),
        lease_owner=bindparam("owner_"),
        attempts=table.c.attempts + 1,
        # Nobody gave it back: whoever had it is dead, or as good as dead.
        deaths=table.c.deaths + sql_cast(table.c.lease_expires_at.is_not(None), Integer),
    )


@lru_cache(maxsize=256)
def _fenced(table: Table, kinds: _Kinds) -> Update:
    return (
        update(table)
        .where(table.c.id == bindparam("row_id_"), table.c.lease_token == bindparam("token_"))
        .values(**_assigned(kinds))
        .returning(table.c.id)
    )


def table_of(model: type[Leased]) -> Table:
    """The table of a leased model."""
    return cast("Table", inspect(model).local_table)
