"""Log records carry an ``action``, the ids of what they are about, and those of their task."""

import logging
import sys

from flask import Flask

from shared.extensions.log_format import handler
from shared.settings import Settings
from shared.settings.redaction import learn_settings

#: The least severe record of libraries that say too much, or what is not for a log.
LEAST = {
    # A line a plugin at every start, in every process.
    "alembic.runtime.plugins": logging.WARNING,
    # A line a request.
    "httpx": logging.WARNING,
    "httpx2": logging.WARNING,
    # Headers and bodies, of requests and of messages.
    "openai": logging.INFO,
    "httpcore": logging.INFO,
    "httpcore2": logging.INFO,
    "hpack": logging.INFO,
    "urllib3": logging.INFO,
    "botocore": logging.INFO,
    "aiobotocore": logging.INFO,
    "s3fs": logging.INFO,
    "kombu": logging.INFO,
    "amqp": logging.INFO,
    "celery.pool": logging.INFO,
    "celery.bootsteps": logging.INFO,
    "sentry_sdk": logging.INFO,
}


def init_app(app: Flask) -> None:
    """Give the root logger one handler on stderr, once a process."""
    settings: Settings = app.extensions["settings"]
    learn_settings(settings)
    root = logging.getLogger()
    root.setLevel(settings.application.log_level)
    for name, level in LEAST.items():
        logging.getLogger(name).setLevel(level)
    if any(getattr(one, "belongs_to_rag_worker", False) for one in root.handlers):
        return
    ours = handler(sys.stderr, settings.application.log_format)
    ours.belongs_to_rag_worker = True  # type: ignore[attr-defined]
    root.addHandler(ours)
