"""Sessions and the heartbeat, which every service needs."""

from functools import lru_cache

from flask import current_app
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from shared.models import db
from worker.delivery.heartbeat import Heartbeat
from worker.delivery.leased_rows import LeasedRows


def sessions() -> "sessionmaker[Session]":
    return _sessions_of(db.engine)


def leased_rows() -> LeasedRows:
    return _leased_rows_of(db.engine)


@lru_cache(maxsize=8)
def _sessions_of(engine: Engine) -> "sessionmaker[Session]":
    # Each is a class of its own, and all of SQLAlchemy's events are told of it: one an engine.
    return sessionmaker(engine, expire_on_commit=False)


@lru_cache(maxsize=8)
def _leased_rows_of(engine: Engine) -> LeasedRows:
    # Those of one engine share their statements.
    return LeasedRows(engine)


def heartbeat() -> Heartbeat:
    extensions = current_app.extensions
    if "heartbeat" not in extensions:  # a process that is no worker: a script, a test
        extensions["heartbeat"] = Heartbeat(db.engine)
    made: Heartbeat = extensions["heartbeat"]
    return made
