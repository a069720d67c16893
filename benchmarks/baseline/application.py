"""The recipe's Flask application and its Celery app, as Flask's documentation has them.

``celery -A benchmarks.baseline.application worker`` runs a worker. ``BASELINE_DATABASE_URI``
and ``BASELINE_REDIS_URL`` name its servers.
"""

import os
from typing import Any

from celery import Celery, Task
from flask import Flask
from redis import Redis

from benchmarks.baseline.models import db

QUEUE = "baseline"


def create_app() -> Flask:
    """The application, its extensions ready."""
    app = Flask("baseline")
    app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["BASELINE_DATABASE_URI"]
    # The one kindness: a connection that a restart of the server broke is noticed.
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"pool_pre_ping": True}
    db.init_app(app)
    app.extensions["redis"] = Redis.from_url(os.environ["BASELINE_REDIS_URL"])
    app.extensions["celery"] = _celery(app)
    return app


def _celery(app: Flask) -> Any:
    class FlaskTask(Task):  # type: ignore[type-arg]
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            with app.app_context():
                return self.run(*args, **kwargs)

    celery = Celery(app.name, task_cls=FlaskTask)
    celery.conf.update(
        broker_url=os.environ["BASELINE_REDIS_URL"],
        task_ignore_result=True,
        task_default_queue=QUEUE,
        broker_connection_retry_on_startup=True,
        imports=["benchmarks.baseline.tasks"],
    )
    celery.set_default()
    return celery


flask_app = create_app()
app = flask_app.extensions["celery"]
