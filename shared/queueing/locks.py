"""Locks by name that end with the transaction, and so with the process that took them.

PostgreSQL's are advisory ones. MariaDB's and MySQL's own outlive a transaction, so there a lock
is a row of ``named_locks``.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import Connection, TextClause
from sqlalchemy.exc import SQLAlchemyError

from shared.models.types import MYSQL

# Waits for whoever has the row, whether it was there or is just being made.
_TAKE = "INSERT INTO named_locks (name) VALUES (%(name)s) ON DUPLICATE KEY UPDATE name = name"
_TAKE_IF_FREE = "SELECT 1 FROM named_locks WHERE name = %(name)s FOR UPDATE SKIP LOCKED"
_EXISTS = "SELECT 1 FROM named_locks WHERE name = %(name)s"


def hold(
    connection: Connection, postgresql: TextClause, values: Mapping[str, Any], *names: str
) -> None:
    """Wait for locks and hold them until the transaction ends.

    Args:
        connection: within its transaction.
        postgresql: what takes them there.
        values: what that is executed with.
        names: what they are called elsewhere, in any order.
    """
    if connection.dialect.name not in MYSQL:
        connection.execute(postgresql, dict(values))
        return
    # In order: two callers at once cannot deadlock.
    for name in sorted(set(names)):
        connection.exec_driver_sql(_TAKE, {"name": name})


def hold_if_free(
    connection: Connection, postgresql: TextClause, values: Mapping[str, Any], name: str
) -> bool:
    """Take a lock until the transaction ends, unless somebody has it.

    Args:
        connection: within its transaction.
        postgresql: what takes it there; answers ``is_ours``.
        values: what that is executed with.
        name: what it is called elsewhere.

    Returns:
        Whether it is held now.
    """
    if connection.dialect.name not in MYSQL:
        return bool(connection.execute(postgresql, dict(values)).one().is_ours)
    wanted = {"name": name}
    if connection.exec_driver_sql(_TAKE_IF_FREE, wanted).first() is not None:
        return True
    if connection.exec_driver_sql(_EXISTS, wanted).first() is not None:
        return False
    # The first time of all: nobody has made the row yet.
    connection.exec_driver_sql(_TAKE, wanted)
    return True


@contextmanager
def ended_when_frozen(connection: Connection, seconds: int) -> Iterator[None]:
    """Let the server end the transaction of a process that freezes, and with it the locks.

    On PostgreSQL the statement that takes the lock says so.
    """
    if connection.dialect.name not in MYSQL:
        yield
        return
    # MySQL's is of connections, whether they are in a transaction or not.
    limit = "idle_transaction_timeout" if _is_mariadb(connection) else "wait_timeout"
    connection.exec_driver_sql(f"SET @usual = @@SESSION.{limit}, SESSION {limit} = {seconds}")
    try:
        yield
    finally:
        # The connection's next user may take its time; a lost one has none.
        with suppress(SQLAlchemyError):
            connection.exec_driver_sql(f"SET SESSION {limit} = @usual")


def _is_mariadb(connection: Connection) -> bool:
    dialect: Any = connection.dialect
    return bool(dialect.is_mariadb)
