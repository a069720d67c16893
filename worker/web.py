"""A small HTTP service: probes, metrics, and answers as they are made.

``gunicorn -c gunicorn.conf.py worker.web_app:app``
"""

from datetime import timedelta
from functools import partial
from threading import Lock

from flask import Flask, Response
from kombu import Connection
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import sessionmaker

from shared.app_factory import create_app
from shared.contract import QUEUES
from shared.models import db
from shared.queueing.publishing import BROKER_ERRORS
from shared.settings import Settings
from shared.web.answers import Access, answers_blueprint
from shared.web.health import health_blueprint
from shared.web.tokens import AnswerTokens
from worker.delivery.measuring import Measurement


def create_web_app(settings: Settings | None = None) -> Flask:
    """The service's application.

    Answers are read, cancelled and asked for with a token of ``AnswerTokens``; without
    one, or without a SECRET_KEY, nobody's are found.

    Raises:
        ConfigurationError: a variable is wrong; one line naming it.
    """
    app = create_app(settings)
    found: Settings = app.extensions["settings"]
    redis, celery = app.extensions["redis"], app.extensions["celery"]
    with app.app_context():
        engine = db.engine
    sessions = sessionmaker(engine)
    life = timedelta(seconds=found.answers.answer_token_seconds)
    tokens = AnswerTokens(found.application.secret_key, life)

    def may(access: Access) -> bool:
        return tokens.tenant_of_request() == access.tenant_id

    app.register_blueprint(health_blueprint(sessions, redis))
    app.register_blueprint(
        answers_blueprint(
            sessions, redis, authorize=may, asker=tokens.tenant_of_request, celery=celery
        )
    )
    connect = partial(_connected, celery.connection_for_write())
    measurement = Measurement(engine, connect, QUEUES, celery.conf.outbox_bounds)
    app.add_url_rule("/metrics", view_func=_Metrics(measurement), endpoint="metrics")
    return app


def _connected(connection: Connection) -> Connection:
    return connection.ensure_connection(max_retries=1, interval_start=0)


class _Metrics:
    """What waits and what is under way, for Prometheus."""

    def __init__(self, measurement: Measurement) -> None:
        self._measurement = measurement
        # One connection to the broker, and one user of it at a time.
        self._lock = Lock()

    def __call__(self) -> Response:
        try:
            with self._lock:
                self._measurement()
        except (SQLAlchemyError, *BROKER_ERRORS):
            # The last figures would look like a system that works.
            return Response("a server does not answer: see /readyz\n", 503)
        return Response(generate_latest(), content_type=CONTENT_TYPE_LATEST)
