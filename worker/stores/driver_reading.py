"""Rows of one statement straight from the driver, where SQLAlchemy would take half of the time.

Its connection, its statement's context and its rows take 0.2 ms a statement, as long as the
driver and its connection together: docs/performance-vectors.md.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

Rows = Sequence[tuple[Any, ...]]


def read_rows(engine: Engine, statement: str, values: Mapping[str, Any]) -> Rows:
    """Execute a statement that only reads, in no transaction, and give all its rows.

    Args:
        engine: of psycopg2.
        statement: with its parameters as ``%(name)s``.
        values: as the driver takes them.

    Raises:
        DBAPIError: what SQLAlchemy raises; a connection that was lost is thrown away.
    """
    with engine.connect() as connection:
        # Who watches statements, as spans do, is told of those only that SQLAlchemy executes.
        if engine.dispatch.before_cursor_execute:
            watched = connection.execution_options(isolation_level="AUTOCOMMIT")
            return [tuple(row) for row in watched.exec_driver_sql(statement, values)]
        return _read(connection, statement, values)


def _read(connection: Connection, statement: str, values: Mapping[str, Any]) -> Rows:
    engine = connection.engine
    driver: Any = connection.connection.driver_connection
    failure: Any = engine.dialect.loaded_dbapi.Error
    try:
        # The next user of the connection gets transactions again: see shared.extensions.database.
        driver.autocommit = True
        cursor = driver.cursor()
        cursor.execute(statement, values)
        rows: Rows = cursor.fetchall()
    except failure as error:
        is_lost = engine.dialect.is_disconnect(error, driver, None)
        if is_lost:
            connection.invalidate(error)
        raise DBAPIError.instance(
            statement,
            values,
            error,
            failure,
            hide_parameters=engine.hide_parameters,
            connection_invalidated=is_lost,
            dialect=engine.dialect,
        ) from error
    except BaseException:
        # Interrupted while the answer was under way: it would be taken for the next one's.
        connection.invalidate()
        raise
    return rows
