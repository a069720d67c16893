"""Leases with fencing tokens: one worker at a time, and a lost lease writes nothing.

The claim takes the next ``lease_token``; every later write of that claim is
conditional on it. All times are the database's clock. Source of the idea:
M. Kleppmann, "How to do distributed locking", 2016 (fencing tokens).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast
from uuid import UUID

from sqlalchemy import ColumnElement, Table, Update, bindparam, func, inspect, or_, update
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
    attempt: int
    seconds: float


def claim(
    session: Session,
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
    statement = _claim(_table(model), conditions, _kinds(values))
    parameters = {"row_id_": row_id, "seconds_": seconds, **_plain(values)}
    row = session.connection().execute(statement, parameters).one_or_none()
    return Lease(model, row_id, row.lease_token, row.attempts, seconds) if row else None


def renew(session: Session, lease: Lease, **values: Any) -> None:
    """Extend the lease and write ``values`` to its row, in the caller's transaction.

    Raises:
        LeaseLost: another worker has claimed the row since, or it is gone.
    """
    _write(session, lease, lease_expires_at=Ago(-lease.seconds), **values)


def release(session: Session, lease: Lease, **values: Any) -> None:
    """Give the lease back and write ``values``, in the caller's transaction.

    Raises:
        LeaseLost: another worker has claimed the row since, or it is gone.
    """
    _write(session, lease, lease_expires_at=None, **values)


def _write(session: Session, lease: Lease, **values: Any) -> None:
    table = _table(lease.model)
    statement = _fenced(table, _kinds(values))
    parameters = {"row_id_": lease.row_id, "token_": lease.token, **_plain(values)}
    if session.connection().execute(statement, parameters).one_or_none() is None:
        raise LeaseLost(f"{table.name} {lease.row_id}: token {lease.token} is no longer the newest")


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
def _claim(table: Table, conditions: tuple[ColumnElement[bool], ...], kinds: _Kinds) -> Update:
    return (
        update(table)
        .where(
            table.c.id == bindparam("row_id_"),
            or_(table.c.lease_expires_at.is_(None), table.c.lease_expires_at < func.now()),
            *conditions,
        )
        .values(
            lease_token=table.c.lease_token + 1,
            lease_expires_at=func.statement_timestamp() + _seconds(bindparam("seconds_")),
            attempts=table.c.attempts + 1,
            **_assigned(kinds),
        )
        .returning(table.c.lease_token, table.c.attempts)
    )


@lru_cache(maxsize=256)
def _fenced(table: Table, kinds: _Kinds) -> Update:
    return (
        update(table)
        .where(table.c.id == bindparam("row_id_"), table.c.lease_token == bindparam("token_"))
        .values(**_assigned(kinds))
        .returning(table.c.id)
    )


def _table(model: type[Leased]) -> Table:
    return cast("Table", inspect(model).local_table)
