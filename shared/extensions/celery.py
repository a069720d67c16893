"""Builds the Celery app; names the task modules, imports none."""

from typing import Any

from celery import Celery
from flask import Flask

from shared.contract import TASKS
from shared.queueing.celery_settings import celery_settings
from shared.queueing.task import FlaskTask
from shared.settings import Settings

#: Derived from the contract: a module with a task in it cannot be forgotten.
TASK_MODULES = tuple(dict.fromkeys(task.name.rpartition(".")[0] for task in TASKS))


def init_app(app: Flask) -> None:
    """Put the Celery app at ``app.extensions["celery"]`` and make it the process's default."""
    settings: Settings = app.extensions["settings"]
    celery: Any = Celery(app.name, task_cls=FlaskTask, set_as_current=False)
    celery.flask_app = app
    celery.config_from_object(celery_settings(settings))
    celery.conf.imports = TASK_MODULES
    celery.set_default()
    app.extensions["celery"] = celery
