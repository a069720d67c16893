"""``/livez`` and ``/readyz`` for probes, for any Flask application to mount."""

import logging
from collections.abc import Callable

from flask import Blueprint, Response, jsonify
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

logger = logging.getLogger(__name__)

_QUICK = text("SET LOCAL statement_timeout = 1000")
_TABLES = text("SELECT 1 FROM outbox LIMIT 1")


def health_blueprint(sessions: Callable[[], Session], redis: Redis) -> Blueprint:
    """The blueprint.

    ``/livez`` says that the process answers, and asks nobody: a restart would not bring a
    server back. ``/readyz`` is 503, with a reason each, while the database or Redis does
    not answer or the tables are not there. Reasons name no addresses: anybody may ask.
    """
    blueprint = Blueprint("rag_worker_health", __name__)

    @blueprint.get("/livez")
    def livez() -> Response:
        """Whether the process answers."""
        return jsonify(status="ok")

    @blueprint.get("/readyz")
    def readyz() -> tuple[Response, int]:
        """Whether it can serve."""
        problems = _problems(sessions, redis)
        status = "not ready" if problems else "ok"
        return jsonify(status=status, problems=problems), 503 if problems else 200

    return blueprint


def _problems(sessions: Callable[[], Session], redis: Redis) -> list[str]:
    found = []
    try:
        with sessions() as session, session.begin():
            session.execute(_QUICK)
            session.execute(_TABLES)
    except SQLAlchemyError as error:
        logger.warning("not ready: %s", error, extra={"action": "health.database"})
        found.append("the database does not answer, or has no tables: `rag-worker db upgrade`")
    try:
        redis.ping()
    except RedisError as error:
        logger.warning("not ready: %s", error, extra={"action": "health.redis"})
        found.append("Redis does not answer")
    return found
