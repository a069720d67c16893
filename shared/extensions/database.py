"""The engine: one pool a process, safe over fork."""

import os
import time
import weakref
from io import BytesIO
from typing import Any

from flask import Flask
from psycopg2.extensions import STATUS_READY, get_wait_callback
from sqlalchemy import Engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection, ExecutionContext
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from shared.extensions import waiting_copy
from shared.models import db
from shared.queueing.engine import prepare_mysql
from shared.settings import Settings

#: A connection used a moment ago is alive, or its loss will show at the next statement.
TRUSTED_SECONDS = 1.0

_engines: "weakref.WeakSet[Engine]" = weakref.WeakSet()


def init_app(app: Flask) -> None:
    """Bind the models' session to the configured database; opens no connection."""
    settings: Settings = app.extensions["settings"]
    app.config["SQLALCHEMY_DATABASE_URI"] = settings.database.url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = settings.database.engine_options
    db.init_app(app)
    with app.app_context():
        _engines.add(db.engine)
        # Before the first connection: a listener that is added while others are being called,
        # by another thread or greenlet, ends their call.
        if settings.database.is_mysql:
            prepare_mysql(db.engine)
        else:
            _begin_transactions_again(db.engine)
            _copy_in(db.engine)
        _check_idle_connections(db.engine)


def _begin_transactions_again(engine: Engine) -> None:
    """Whoever takes a connection gets transactions, whatever its last user had set.

    On the way out of the pool, not into it: a task may be interrupted anywhere.
    """
    is_psycopg2 = engine.dialect.driver == "psycopg2"

    @event.listens_for(engine, "checkout")
    def reset(connection: Any, *_: object) -> None:
        # SQLAlchemy gives the server's own level back by its name. With a level that has a name
        # psycopg2 asks the server each time autocommit ends, and all greenlets wait for it.
        if is_psycopg2 and connection.status != STATUS_READY:
            # Interrupted at its commit: to SQLAlchemy that transaction is over.
            connection.rollback()
        if is_psycopg2 and connection.isolation_level is not None:
            connection.isolation_level = None
        if getattr(connection, "autocommit", False) is True:
            connection.autocommit = False


def _check_idle_connections(engine: Engine) -> None:
    """Ping a connection that was idle, so that a restarted database costs a reconnect.

    SQLAlchemy's own check pings at every checkout: for short transactions, a third
    of the round trips.
    """

    @event.listens_for(engine, "checkin")
    def note(_: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        record.info["idle_since"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def check(
        connection: DBAPIConnection, record: ConnectionPoolEntry, _: PoolProxiedConnection
    ) -> None:
        since = record.info.get("idle_since")
        if since is None or time.monotonic() - since < TRUSTED_SECONDS:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as lost:
            # The pool throws it away and takes the next.
            raise DisconnectionError from lost


def _copy_in(engine: Engine) -> None:
    """Let a COPY FROM STDIN be executed like any statement; it reads the option ``copied``, bytes.

    So its errors are SQLAlchemy's, and a connection that it loses is thrown away.
    """

    @event.listens_for(engine, "do_execute")
    def copy(cursor: Any, statement: str, _: object, context: ExecutionContext) -> bool:
        copied = context.execution_options.get("copied")
        if copied is None:
            return False
        if get_wait_callback() is None:
            cursor.copy_expert(statement, BytesIO(copied))
        else:
            waiting_copy.copy(cursor, statement, copied)
        return True


def _forget_parents_connections() -> None:
    for engine in _engines:
        # close=False: the sockets are the parent's too; closing would end its sessions.
        engine.dispose(close=False)


os.register_at_fork(after_in_child=_forget_parents_connections)
