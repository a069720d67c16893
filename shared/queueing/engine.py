"""The engine of whoever has no Flask application: a script, another framework, a thread."""

import socket
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from shared.settings.database import DatabaseSettings

#: Seconds of silence, seconds between questions, questions; milliseconds without an answer.
_KEEPALIVE = (
    (socket.TCP_KEEPIDLE, 15),
    (socket.TCP_KEEPINTVL, 5),
    (socket.TCP_KEEPCNT, 3),
    (socket.TCP_USER_TIMEOUT, 30_000),
)


def open_engine(database: DatabaseSettings, **options: Any) -> Engine:
    """Make an engine by the settings, whichever server they name; opens no connection.

    Args:
        database: the settings.
        options: of ``create_engine``, in the place of what the settings say.
    """
    engine = create_engine(database.url, **(database.engine_options | options))
    if database.is_mysql:
        prepare_mysql(engine)
    return engine


def prepare_mysql(engine: Engine) -> None:
    """Give an engine of MariaDB or MySQL what its connections need; opens none."""
    # Takes a while to import, and PostgreSQL needs none of it.
    from shared.mysql import install

    install(engine)

    @event.listens_for(engine, "connect")
    def prepare(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        # SQLAlchemy names the character set once more, which takes the collation back.
        with connection.cursor() as cursor:  # type: ignore[attr-defined]
            cursor.execute("SET SESSION collation_connection = 'utf8mb4_bin'")
        # A black-holed connection must end within a lease, not after the kernel's 2 hours.
        opened = connection._sock  # noqa: SLF001 - PyMySQL has no option for it
        if opened.family != socket.AF_UNIX:
            for option, value in _KEEPALIVE:
                opened.setsockopt(socket.IPPROTO_TCP, option, value)
