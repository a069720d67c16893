"""What the ops_trace queue's services need."""

from flask import current_app

from shared.settings import Settings
from worker.services.ops_trace.cleaning import Cleaned, Retention, clean_traces
from worker.services.ops_trace.payloads import PayloadFiles
from worker.stores.files import StoredFiles
from worker.wiring.foundations import sessions


def payload_files() -> PayloadFiles:
    """Where large payloads lie."""
    return StoredFiles(current_app.extensions["storage"])


def clean_old_traces() -> Cleaned:
    """Delete and move by the settings; see ``clean_traces``."""
    settings: Settings = current_app.extensions["settings"]
    tracing = settings.tracing
    retention = Retention(
        delivered_days=tracing.trace_delivered_retention_days,
        failed_days=tracing.trace_failed_retention_days,
        inline_bytes=tracing.trace_inline_bytes,
    )
    return clean_traces(sessions(), payload_files(), retention)
