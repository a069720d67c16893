"""Leases as statements that are a transaction each; of many greenlets, by the group.

A row that anybody has locked is left out of a group, and its owner goes for it alone:
nobody else waits for it, and two groups cannot deadlock.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import lru_cache, partial
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    DateTime,
    Engine,
    Integer,
    Row,
    String,
    Table,
    TextClause,
    text,
)

from shared.models.leased import Leased
from worker.delivery.coalescing import PAUSE_SECONDS, Coalesced
from worker.delivery.lease import (
    Ago,
    Lease,
    claim_rows,
    release,
    renew,
    table_of,
)
from worker.delivery.single import single_statements

_SECONDS_AGO = "float8"
#: By what a column is; columns of any other kind are not written by the group.
_ARRAYS = (((String,), "text"), ((Integer,), "bigint"), ((DateTime,), _SECONDS_AGO))
_Write = tuple[Lease, dict[str, Any]]
#: A name and the type of its values, in the order of a statement.
_Shape = tuple[tuple[str, str], ...]


class LeasedRows:
    """Takes, keeps and gives back rows.

    Args:
        engine: the database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._claims: dict[Any, Coalesced[UUID, Any]] = {}
        self._writes: dict[tuple[Any, ...], Coalesced[_Write, bool]] = {}

    def single(self) -> AbstractContextManager[Connection]:
        """A connection on which each statement is a transaction of its own."""
        return single_statements(self._engine)

    def claim_free(
        self,
        model: type[Leased],
        row_id: UUID,
        seconds: float,
        *conditions: ColumnElement[bool],
    ) -> tuple[Lease, Row[Any]] | None:
        """As ``lease.claim_row``; ``None`` also when it has to be tried alone."""
        key = (model, seconds, conditions)
        found = self._claims.get(key)
        if found is None:
            found = self._claims[key] = Coalesced(partial(self._claim, *key))
        return found(row_id)

    def renew(self, lease: Lease, **values: Any) -> None:
        """As ``lease.renew``.

        Raises:
            LeaseLost: another worker has claimed the row since, or it is gone.
        """
        kept = {"lease_expires_at": Ago(-lease.seconds), **values}
        if not self._is_written(lease, kept, PAUSE_SECONDS):
            with self.single() as connection:
                renew(connection, lease, **values)

    def release(self, lease: Lease, **values: Any) -> None:
        """As ``lease.release``.

        Raises:
            LeaseLost: another worker has claimed the row since, or it is gone.
        """
        given_back = {"lease_expires_at": None, "lease_owner": None}
        # At once: what is done and not written down is done again, should this process die.
        if not self._is_written(lease, {**given_back, **values}, 0.0):
            with self.single() as connection:
                release(connection, lease, **values)

    def _claim(
        self,
        model: type[Leased],
        seconds: float,
        conditions: tuple[ColumnElement[bool], ...],
        ids: Sequence[UUID],
    ) -> list[Any]:
        with self.single() as connection:
            claimed = claim_rows(connection, model, ids, seconds, conditions)
        # Popped: of a row that was asked for twice only one has it.
        return [claimed.pop(one, None) for one in ids]

    def _is_written(self, lease: Lease, values: dict[str, Any], pause_seconds: float) -> bool:
        key = (lease.model, *values)
        found = self._writes.get(key)
        if found is None:
            table = table_of(lease.model)
            shape = tuple((name, _array_of(table, name)) for name in values)
            write = partial(self._write, table, shape)
            found = self._writes[key] = Coalesced(write, pause_seconds)
        return bool(found((lease, values)))

    def _write(self, table: Table, shape: _Shape, writes: Sequence[_Write]) -> list[bool]:
        given: dict[str, Any] = {
            "ids": [str(lease.row_id) for lease, _ in writes],
            "tokens": [lease.token for lease, _ in writes],
        }
        for name, _ in shape:
            given[f"{name}_values"] = [_plain(values[name]) for _, values in writes]
        with self.single() as connection:
            rows = connection.execute(_fenced(table, shape), given)
            written = {(row.id, row.lease_token) for row in rows}
        return [(lease.row_id, lease.token) in written for lease, _ in writes]


def _plain(value: Any) -> Any:
    return value.seconds if isinstance(value, Ago) else value


def _array_of(table: Table, name: str) -> str:
    """The array that carries a column's values; a time is so many seconds ago."""
    kind = table.c[name].type
    return next(array for kinds, array in _ARRAYS if isinstance(kind, kinds))


@lru_cache(maxsize=256)
def _fenced(table: Table, shape: _Shape) -> TextClause:
    names = [name for name, _ in shape]
    arrays = ", ".join(f"CAST(:{name}_values AS {array}[])" for name, array in shape)
    assigned = ", ".join(
        f"{name} = statement_timestamp() - make_interval(secs => given.{name})"
        if array == _SECONDS_AGO
        else f"{name} = given.{name}"
        for name, array in shape
    )
    return text(f"""
        WITH given AS (
            SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:tokens AS bigint[]), {arrays})
                AS given(id, token, {", ".join(names)})
        ),
        ours AS (
            SELECT leased.id FROM given
            JOIN {table.name} AS leased
                ON leased.id = given.id AND leased.lease_token = given.token
            FOR UPDATE OF leased SKIP LOCKED
        )
        UPDATE {table.name} AS leased SET {assigned}
        FROM given JOIN ours ON ours.id = given.id
        WHERE leased.id = ours.id AND leased.lease_token = given.token
        RETURNING leased.id, leased.lease_token
    """)  # noqa: S608 - names of our own columns
