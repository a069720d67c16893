"""What Sentry is told; loaded only where there is a ``SENTRY_DSN``.

A retry is no error. What a task ends with for good is one, and so are crashes, dead
letters and errors in the log. No arguments, no variables, no bodies, no addresses.
"""

import logging
import sys
from importlib.metadata import version
from typing import Any

import sentry_sdk
from celery.app import trace
from celery.signals import task_failure
from sentry_sdk.integrations.argv import ArgvIntegration
from sentry_sdk.integrations.celery import CeleryIntegration
from sentry_sdk.integrations.flask import FlaskIntegration
from sentry_sdk.integrations.logging import LoggingIntegration

from shared.queueing import task_context
from shared.settings.redaction import redacted_value
from shared.settings.telemetry import TelemetrySettings

#: Logged beside an error that is reported anyway.
_REPEATED = {"dead_letter.written"}
#: One of several subjects of a task that goes on with the others.
_PERMANENT = {"indexing.failed"}
#: What a request says of itself; the rest may hold what users wrote.
_SHOWN_OF_REQUEST = {"url", "method"}


def report(settings: TelemetrySettings) -> None:
    """Report errors of this process from here on."""
    if sentry_sdk.get_client().is_active():
        return
    sentry_sdk.init(
        settings.sentry_dsn.get_secret_value(),
        environment=settings.sentry_environment,
        release=f"rag-worker@{version('rag-worker')}",
        traces_sample_rate=settings.sentry_traces_sample_rate or None,
        send_default_pii=False,
        include_local_variables=False,
        max_request_body_size="never",
        # Libraries that are there by chance report prompts and rows.
        auto_enabling_integrations=False,
        disabled_integrations=[ArgvIntegration()],
        integrations=[
            CeleryIntegration(propagate_traces=False),
            FlaskIntegration(),
            LoggingIntegration(level=logging.INFO, event_level=logging.ERROR),
        ],
        before_send=_shown,
        before_send_transaction=_shown,
    )
    _wrap_consumer()
    task_failure.connect(_report_permanent)
    logging.getLogger().addHandler(_OneOfSeveral(logging.WARNING))


def _wrap_consumer() -> None:
    """Let the integration wrap tasks of pools without children too.

    It replaces ``build_tracer`` in its module; the consumer, which makes the tracers of
    those pools, may have taken the plain one by name before.
    """
    if (consumer := sys.modules.get("celery.worker.consumer.consumer")) is not None:
        vars(consumer)["build_tracer"] = trace.build_tracer


def _report_permanent(sender: Any, exception: BaseException, **_: Any) -> None:
    """Celery's integration leaves out what a task is declared to end with."""
    if isinstance(exception, tuple(getattr(sender, "throws", ()))):
        sentry_sdk.capture_exception(exception)


class _OneOfSeveral(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "action", None) in _PERMANENT:
            sentry_sdk.capture_message(record.getMessage(), level="error")


def _shown(event: Any, hint: Any) -> Any:
    record = hint.get("log_record")
    if getattr(record, "action", None) in _REPEATED:
        return None
    event["tags"] = {**dict(event.get("tags") or {}), **task_context.fields()}
    event.pop("user", None)
    request = event.get("request")
    if isinstance(request, dict):
        event["request"] = {
            name: str(value).partition("?")[0]
            for name, value in request.items()
            if name in _SHOWN_OF_REQUEST
        }
    return redacted_value(event, mail_addresses=True)
