"""Makes every line of a worker's log say which task it is about.

Celery's own lines too: this project's handler and level stay, and what a task
prints is logged.
"""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from threading import Thread
from types import MethodType
from typing import Any

from billiard.util import get_logger as pool_logger
from celery import Celery
from celery.signals import setup_logging, task_postrun, task_prerun
from celery.worker.strategy import default
from flask import Flask

from shared.queueing import task_context
from shared.queueing.task import FlaskTask
from shared.queueing.task_context import TaskContext, context_of_message
from shared.settings import Settings


def install(flask_app: Flask) -> None:
    """Take over the log of a worker, and give threads the context of the task that starts them."""
    # On the class, as the request is: see ``bootstep.install``.
    FlaskTask.Strategy = f"{__name__}:strategy"
    celery: Celery = flask_app.extensions["celery"]
    settings: Settings = flask_app.extensions["settings"]

    def keep_ours(loglevel: int | str | None = None, **_: Any) -> None:
        level = logging.getLevelName(settings.application.log_level)
        # Celery's own default is above what operators need; only more can be asked for.
        if loglevel in {logging.DEBUG, "DEBUG"}:
            level = logging.DEBUG
        logging.getLogger().setLevel(level)
        pool = pool_logger()
        pool.setLevel(logging.ERROR)
        pool.propagate = True
        if celery.conf.worker_redirect_stdouts:
            celery.log.redirect_stdouts(celery.conf.worker_redirect_stdouts_level)

    setup_logging.connect(keep_ours, weak=False)
    _carry_into_threads()


def strategy(task: Any, app: Any, consumer: Any, **options: Any) -> Callable[..., Any]:
    """Celery's own way of taking a message, which is known before its first line."""
    take = default(task, app, consumer, **options)

    def take_known(message: Any, *others: Any, **named: Any) -> Any:
        headers = message.headers or {}
        if "id" not in headers:
            return take(message, *others, **named)
        context = context_of_message(
            headers,
            task=task.name,
            task_id=str(headers["id"]),
            queue=(message.delivery_info or {}).get("routing_key"),
        )
        with task_context.entered(context):
            return take(message, *others, **named)

    return take_known


def context_of(request: Any) -> TaskContext:
    """Of a message in the worker's main process: ``celery.worker.request.Request``."""
    return context_of_message(
        request.request_dict,
        task=str(request.name),
        task_id=str(request.id),
        queue=(request.delivery_info or {}).get("routing_key"),
    )


@task_prerun.connect
def _begin(task_id: str, task: Any, args: Any, kwargs: Any, **_: Any) -> None:
    request = task.request
    context = context_of_message(
        vars(request),
        task=task.name,
        task_id=task_id,
        queue=(request.delivery_info or {}).get("routing_key"),
        args=args,
        kwargs=kwargs,
    )
    task_context.begin(context, is_nested=bool(request.is_eager))


@task_postrun.connect
def _end(task_id: str, **_: Any) -> None:
    task_context.end(task_id)


class _Carried:
    is_installed = False


def _carry_into_threads() -> None:
    """Threads know nothing of who starts them before Python 3.14."""
    if _Carried.is_installed:
        return
    _Carried.is_installed = True
    start = Thread.start
    submit: Any = ThreadPoolExecutor.submit

    @wraps(start)
    def start_known(self: Thread) -> None:
        if task_context.current() is not None:
            known = task_context.in_this_context(self.run)
            # A method, as others expect who wrap it too.
            self.run = MethodType(lambda _: known(), self)  # type: ignore[method-assign]
        start(self)

    @wraps(submit)
    def submit_known(
        self: ThreadPoolExecutor, work: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Any:
        if task_context.current() is not None:
            work = task_context.in_this_context(work)
        return submit(self, work, *args, **kwargs)

    Thread.start = start_known  # type: ignore[method-assign]
    ThreadPoolExecutor.submit = submit_known  # type: ignore[method-assign,assignment]
