"""What delivering traces needs."""

from functools import cache
from ipaddress import ip_network

from flask import current_app

from shared.settings import Settings
from shared.settings.fetching import listed
from shared.settings.trace_export import TraceExportSettings
from shared.submitting.sealing import SealingKeys
from worker.providers.otlp import OtlpRules, OtlpSender
from worker.providers.trace_sender import TraceSender
from worker.services.ops_trace.export_needs import BatchLimits, BreakerRules, ExportNeeds
from worker.wiring.foundations import heartbeat, sessions
from worker.wiring.ops_trace import payload_files


def export_needs() -> ExportNeeds:
    """A trace's needs in the current application."""
    settings: Settings = current_app.extensions["settings"]
    export, networks = settings.trace_export, settings.tracing.trace_allowed_networks
    return ExportNeeds(
        sessions=sessions(),
        sender=lambda: _sender(export, networks),
        files=payload_files(),
        unsealed=SealingKeys.of(settings.application).open,
        celery=current_app.extensions["celery"],
        heartbeat=heartbeat(),
        lease_seconds=settings.delivery.delivery_lease_seconds,
        max_attempts=export.trace_max_attempts,
        max_deaths=settings.delivery.delivery_max_deaths,
        limits=BatchLimits(export.trace_batch_traces, export.trace_batch_spans),
        breaker=BreakerRules(
            export.trace_breaker_failures,
            export.trace_breaker_shortest_seconds,
            export.trace_breaker_longest_seconds,
        ),
    )


@cache
def _sender(export: TraceExportSettings, networks: str) -> TraceSender:
    """What carries spans, with its connections; one a process."""
    return OtlpSender(
        OtlpRules(
            timeout_seconds=export.trace_timeout_seconds,
            max_connections=export.trace_max_connections,
            networks=tuple(map(ip_network, listed(networks))),
        )
    )
