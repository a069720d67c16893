"""Sessions and the heartbeat, which every service needs."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import lru_cache, partial

from flask import current_app
from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session, sessionmaker

from shared.models import db
from worker.delivery.heartbeat import Heartbeat
from worker.delivery.single import single_statements


def sessions() -> "sessionmaker[Session]":
    return _sessions_of(db.engine)


def single() -> Callable[[], AbstractContextManager[Connection]]:
    return partial(single_statements, db.engine)


@lru_cache(maxsize=8)
def _sessions_of(engine: Engine) -> "sessionmaker[Session]":
    # Each is a class of its own, and all of SQLAlchemy's events are told of it: one an engine.
    return sessionmaker(engine, expire_on_commit=False)


def heartbeat() -> Heartbeat:
    extensions = current_app.extensions
    if "heartbeat" not in extensions:  # a process that is no worker: a script, a test
        extensions["heartbeat"] = Heartbeat(db.engine)
    made: Heartbeat = extensions["heartbeat"]
    return made
