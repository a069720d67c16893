"""The engine that results are stored through."""

from typing import Any

from sqlalchemy import URL, Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError

from shared.errors import ConfigurationError
from shared.settings import mysql

DRIVER = "postgresql+psycopg2"

# The rows of the application are the truth about the work and are committed durably
# before this; a result row only reports on it, so a task need not wait for the disk
# once more: 0.14 ms for each flush on a fast one (pg_test_fsync), against 0.2 ms for a
# whole store. A crash of the server may lose the reports of its last ~600 ms (3 x
# wal_writer_delay), never corrupt them; who waits on ``AsyncResult.get`` needs a timeout.
SERVER_OPTIONS = "-c synchronous_commit=off -c timezone=UTC"

ENGINE_OPTIONS: dict[str, Any] = {
    # One connection writes for the whole process; the others serve readers.
    "pool_size": 10,
    "max_overflow": 0,
    "pool_timeout": 30,
    "pool_recycle": 3600,
    # The most recently used connection first: a quiet process touches one, not ten.
    "pool_use_lifo": True,
    # A ping would double the round trips. A dead connection shows at the statement,
    # SQLAlchemy then drops every older one, and running an upsert twice is harmless.
    "pool_pre_ping": False,
    # A host that vanished must end in an error and a retry: tasks wait for it in line.
    "connect_args": {
        "connect_timeout": 10,
        "options": SERVER_OPTIONS,
        "keepalives_idle": 15,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
    },
}

#: On MariaDB and MySQL: to open a connection, and for one statement.
CONNECT_SECONDS = 10
STATEMENT_SECONDS = 60


def result_url(uri: str) -> URL:
    """Parse the URI of a database that results can be stored in.

    Raises:
        ConfigurationError: The URI is malformed or names another driver.
    """
    try:
        url = make_url(uri)
    except ArgumentError as error:
        raise ConfigurationError("The result database URI cannot be parsed.") from error
    if url.drivername not in {DRIVER, *mysql.DRIVERS.values()}:
        raise ConfigurationError(f"The result backend speaks {DRIVER}, not {url.drivername}.")
    return url


def result_engine(url: URL, chosen: dict[str, Any]) -> Engine:
    """Make the engine of results; opens no connection.

    Args:
        url: The database.
        chosen: What an operator's ``database_engine_options`` say.
    """
    options = dict(ENGINE_OPTIONS)
    if mysql.is_mysql(url.drivername):
        options |= mysql.engine_options(url.query, CONNECT_SECONDS, STATEMENT_SECONDS)
    else:
        options["paramstyle"] = "format"
    # Every statement here stands alone: no BEGIN, no COMMIT, nothing to roll back.
    alone = {"isolation_level": "AUTOCOMMIT", "pool_reset_on_return": None}
    return create_engine(url, **options | chosen | alone, hide_parameters=True)
