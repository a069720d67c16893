"""The engine: one pool a process, safe over fork."""

import os
import time
import weakref
from typing import Any

from flask import Flask
from sqlalchemy import Engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from shared.models import db
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
        _begin_transactions_again(db.engine)
        _check_idle_connections(db.engine)


def _begin_transactions_again(engine: Engine) -> None:
    """Whoever takes a connection gets transactions, whatever its last user had set.

    On the way out of the pool, not into it: a task may be interrupted anywhere.
    """

    @event.listens_for(engine, "checkout")
    def reset(connection: Any, *_: object) -> None:
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


def _forget_parents_connections() -> None:
    for engine in _engines:
        # close=False: the sockets are the parent's too; closing would end its sessions.
        engine.dispose(close=False)


os.register_at_fork(after_in_child=_forget_parents_connections)
