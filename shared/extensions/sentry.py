"""Sentry: what ended for good, and what nobody expected; in workers and in the HTTP service."""

from flask import Flask

from shared.errors import ConfigurationError
from shared.settings import Settings


def is_enabled(settings: Settings) -> bool:
    """Whether there is a ``SENTRY_DSN``; without one nothing of Sentry is loaded."""
    return bool(settings.telemetry.sentry_dsn.get_secret_value())


def init_app(app: Flask) -> None:
    """Report errors of this process, once.

    Raises:
        ConfigurationError: the extra is not installed.
    """
    try:
        from shared.extensions import error_reports
    except ImportError as error:
        raise ConfigurationError(
            f"SENTRY_DSN needs the extra sentry: pip install 'rag-worker[sentry]' ({error})"
        ) from error
    settings: Settings = app.extensions["settings"]
    error_reports.report(settings.telemetry)
