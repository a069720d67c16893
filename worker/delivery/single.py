"""Statements that are a transaction each: one round trip, where BEGIN and COMMIT make it three."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Engine, event


@contextmanager
def single_statements(engine: Engine) -> Iterator[Connection]:
    """A connection of the engine's pool on which every statement is committed by itself.

    What one statement does is done whole or not at all, also by this one. Whoever writes
    two things that belong together takes a transaction.
    """
    with _resetting(engine).connect() as connection:
        # Not by SQLAlchemy's isolation level: psycopg2 asks the server at each way back.
        driver: Any = connection.connection.dbapi_connection
        driver.autocommit = True
        yield connection


@lru_cache(maxsize=8)
def _resetting(engine: Engine) -> Engine:
    event.listen(engine, "checkout", _begin_transactions_again)
    return engine


def _begin_transactions_again(driver: Any, *_: object) -> None:
    # On the way out of the pool, not into it: a task may be interrupted anywhere, and the
    # next user of its connection must get his transaction.
    if driver.autocommit:
        driver.autocommit = False
