"""The application factory: configuration first, then the extensions in their written order."""

import importlib
import logging
import time

from flask import Flask

from shared.extensions import MIGRATION_ORDER, ORDER
from shared.settings import Settings, load_settings

logger = logging.getLogger(__name__)


def create_app(settings: Settings | None = None) -> Flask:
    """The application every process of rag-worker runs in.

    Args:
        settings: for tests and embedding; read from the environment when unset.

    Raises:
        ConfigurationError: a variable is wrong; one line naming it.
    """
    return _create(settings, ORDER)


def create_migrations_app(settings: Settings | None = None) -> Flask:
    """The application ``db upgrade`` runs in: a database, neither Redis nor Celery.

    Raises:
        ConfigurationError: a variable is wrong; one line naming it.
    """
    return _create(settings, MIGRATION_ORDER)


def _create(settings: Settings | None, order: tuple[tuple[str, str], ...]) -> Flask:
    settings = settings or load_settings()
    app = Flask("rag_worker")
    app.config["SECRET_KEY"] = settings.application.secret_key.get_secret_value() or None
    app.config["DEBUG"] = settings.application.debug
    app.extensions["settings"] = settings
    started = time.perf_counter()
    for module_name, _reason in order:
        _initialise(app, module_name, settings)
    _log_time(app, "all extensions", started)
    return app


def _initialise(app: Flask, module_name: str, settings: Settings) -> None:
    started = time.perf_counter()
    extension = importlib.import_module(module_name)
    is_enabled = getattr(extension, "is_enabled", None)
    if is_enabled is not None and not is_enabled(settings):
        if app.debug:
            logger.info("%s is not enabled", module_name, extra={"action": "extension.skipped"})
        return
    extension.init_app(app)
    _log_time(app, module_name, started)


def _log_time(app: Flask, what: str, started: float) -> None:
    if app.debug:
        milliseconds = (time.perf_counter() - started) * 1000
        logger.info("%s ready in %.1f ms", what, milliseconds, extra={"action": "extension.ready"})
