"""A small HTTP service: probes, metrics, and answers as they are made.

``gunicorn -c gunicorn.conf.py worker.web_app:app``
"""

from datetime import timedelta

from celery import Celery
from flask import Flask, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from sqlalchemy.orm import sessionmaker

from shared.app_factory import create_app
from shared.models import db
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
    app.add_url_rule("/metrics", view_func=_Metrics(found, celery), endpoint="metrics")
    return app


class _Metrics:
    """What the servers know of work, for Prometheus.

    Nothing of this process is in it: the service has several, and each scrape meets another.
    """

    def __init__(self, settings: Settings, celery: Celery) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(Measurement.of(settings, celery))

    def __call__(self) -> Response:
        return Response(generate_latest(self._registry), content_type=CONTENT_TYPE_LATEST)
