"""Statements that are a transaction each: one round trip, where BEGIN and COMMIT make it three."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, event

from shared.models.types import MYSQL


@contextmanager
def single_statements(engine: Engine) -> Iterator[Connection]:
    """A connection of the engine's pool on which every statement is committed by itself.

    What one statement does is done whole or not at all, also by this one. Whoever writes
    two things that belong together takes a transaction.
    The engine is the application's: whoever has this connection next gets transactions.
    """
    with engine.connect() as connection:
        if engine.dialect.name in MYSQL:
            # A statement of PostgreSQL's may be several there: autocommit would part them.
            event.listen(connection, "after_cursor_execute", _commit)
            yield connection
            return
        # Not by SQLAlchemy's isolation level: psycopg2 asks the server at each way back.
        driver: Any = connection.connection.dbapi_connection
        driver.autocommit = True
        yield connection


def _commit(connection: Connection, *_: object) -> None:
    driver: Any = connection.connection.dbapi_connection
    driver.commit()
