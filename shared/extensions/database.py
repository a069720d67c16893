"""The engine: one pool a process, safe over fork."""

import os
import weakref

from flask import Flask
from sqlalchemy import Engine

from shared.models import db
from shared.settings import Settings

_engines: "weakref.WeakSet[Engine]" = weakref.WeakSet()


def init_app(app: Flask) -> None:
    """Bind the models' session to the configured database; opens no connection."""
    settings: Settings = app.extensions["settings"]
    app.config["SQLALCHEMY_DATABASE_URI"] = settings.database.url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = settings.database.engine_options
    db.init_app(app)
    with app.app_context():
        _engines.add(db.engine)


def _forget_parents_connections() -> None:
    for engine in _engines:
        # close=False: the sockets are the parent's too; closing would end its sessions.
        engine.dispose(close=False)


os.register_at_fork(after_in_child=_forget_parents_connections)
