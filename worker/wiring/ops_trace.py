"""What the ops_trace queue's services need."""

from functools import cache
from ipaddress import ip_network

from flask import current_app

from shared.errors import SpansRefused
from shared.settings import Settings
from shared.settings.fetching import listed
from shared.submitting.trace_configs import TraceTarget
from shared.submitting.trace_schema import Trace
from worker.providers.otlp import OtlpRules, OtlpSender
from worker.providers.otlp_encoding import encode, joined
from worker.providers.trace_presets import PRESETS
from worker.providers.trace_presets import target_of as address_of
from worker.providers.trace_sender import TraceSender
from worker.services.ops_trace.cleaning import Cleaned, Retention, clean_traces
from worker.services.ops_trace.payloads import PayloadFiles
from worker.services.ops_trace.probing import Probe, probe
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


def probe_provider(target: TraceTarget) -> Probe:
    """Send one span by a configuration, now.

    Raises:
        Transient: the provider does not answer, or says "later".
        Permanent: it refuses, and its words say why.
    """
    settings: Settings = current_app.extensions["settings"]
    sender = _sender(settings.tracing.trace_allowed_networks)

    def send(target: TraceTarget, trace: Trace) -> str:
        preset = PRESETS[target.provider]
        address = address_of(preset, target.endpoint, target.secrets, target.options)
        receipt = sender.send(address, joined([encode(trace, preset, target.options)]))
        if receipt.rejected_spans:
            raise SpansRefused(f"the provider did not take the span: {receipt.words}")
        return receipt.words

    return probe(target, send)


@cache
def _sender(networks: str) -> TraceSender:
    return OtlpSender(OtlpRules(networks=tuple(map(ip_network, listed(networks)))))
