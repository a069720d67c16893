"""The tasks that do nothing, and the applications that run them.

``ours`` is rag-worker as it is started: ``FlaskTask``, the delivery contract, its transport and
its result backend. ``plain`` is Celery with the same settings and nothing of ours: the stock
``Task``, transport and, where ``BENCHMARK_RESULTS`` names one, the stock database backend.
"""

import os
from typing import Any

from celery import Celery

from benchmarks.work import asleep, busy, nothing
from shared.queueing.celery_settings import celery_settings
from shared.settings import load_settings

QUEUE = "ops_trace"
NOTHING, STORED = "benchmarks.nothing", "benchmarks.stored"
BUSY, ASLEEP = "benchmarks.busy", "benchmarks.asleep"


def add_tasks(app: Any) -> Celery:
    """Put the tasks into an application, with its own base class."""
    app.task(nothing, name=NOTHING, queue=QUEUE)
    # The same function under another name: this one's result is kept.
    app.task(nothing, name=STORED, queue=QUEUE, ignore_result=False)
    app.task(busy, name=BUSY, queue=QUEUE)
    app.task(asleep, name=ASLEEP, queue=QUEUE)
    made: Celery = app
    return made


def plain_app(broker: str, results: str) -> Celery:
    """Celery with rag-worker's settings.

    Args:
        broker: where its queue is.
        results: ``none``; ``stock`` for Celery's database backend as it is by default;
            ``thread_safe`` for the same with that setting, which gevent needs.
    """
    settings = load_settings()
    configuration = celery_settings(settings) | {"broker_url": broker}
    del configuration["result_backend"], configuration["database_url"]
    if results != "none":
        configuration |= {
            "result_backend": f"db+{settings.database.uri}",
            "result_backend_thread_safe": results == "thread_safe",
        }
    made: Any = Celery("plain", set_as_current=False)
    made.config_from_object(configuration)
    made.conf.imports = ()
    return add_tasks(made)


def plain_app_of_environment() -> Celery:
    """What a worker's environment asks for."""
    return plain_app(os.environ["BENCHMARK_BROKER"], os.environ["BENCHMARK_RESULTS"])
