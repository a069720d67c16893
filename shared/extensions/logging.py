"""Log records carry an ``action`` and the ids of what they are about."""

import logging
import sys

from flask import Flask
from pythonjsonlogger.json import JsonFormatter

from shared.settings import Settings

TEXT_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def init_app(app: Flask) -> None:
    """Give the root logger one handler on stderr, once a process."""
    settings: Settings = app.extensions["settings"]
    root = logging.getLogger()
    root.setLevel(settings.application.log_level)
    # A line a plugin at every start, in every process.
    logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)
    # And this one a line a request.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if any(getattr(handler, "belongs_to_rag_worker", False) for handler in root.handlers):
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.belongs_to_rag_worker = True  # type: ignore[attr-defined]
    handler.setFormatter(formatter(settings))
    root.addHandler(handler)


def formatter(settings: Settings) -> logging.Formatter:
    """The formatter the settings ask for; Celery's own loggers use it too."""
    if settings.application.log_format == "json":
        return JsonFormatter(
            "%(asctime)s %(levelname)s %(name)s %(message)s",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
        )
    return logging.Formatter(TEXT_FORMAT)
