"""OpenTelemetry: one trace from whoever submits, through the broker, to SQL and HTTP."""

from flask import Flask

from shared.errors import ConfigurationError
from shared.settings import Settings


def is_enabled(settings: Settings) -> bool:
    """Whether ``TELEMETRY_ENABLED`` is on; without it nothing of OpenTelemetry is loaded."""
    return settings.telemetry.telemetry_enabled


def init_app(app: Flask) -> None:
    """Record spans of the application, its database, its tasks and its requests.

    Raises:
        ConfigurationError: the extra is not installed.
    """
    try:
        from shared.extensions import spans
    except ImportError as error:
        raise ConfigurationError(
            "TELEMETRY_ENABLED needs the extra telemetry: "
            f"pip install 'rag-worker[telemetry]' ({error})"
        ) from error
    spans.record(app)
