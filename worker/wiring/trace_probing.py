"""One span by a configuration, now: the way every trace goes, but for the queue."""

from functools import partial

from shared.errors import SpansRefused
from shared.submitting.trace_configs import TraceTarget
from shared.submitting.trace_schema import Trace
from worker.providers.otlp_encoding import encode, joined
from worker.providers.trace_presets import PRESETS, target_of
from worker.providers.trace_sender import TraceSender
from worker.services.ops_trace.probing import Probe, probe
from worker.wiring.trace_export import export_needs


def probe_provider(target: TraceTarget) -> Probe:
    """Send one span by a configuration.

    Raises:
        Transient: the provider does not answer, or says "later".
        Permanent: it refuses, and its words say why.
    """
    return probe(target, partial(_send, export_needs().sender()))


def _send(sender: TraceSender, target: TraceTarget, trace: Trace) -> str:
    preset = PRESETS[target.provider]
    address = target_of(preset, target.endpoint, target.secrets, target.options)
    receipt = sender.send(address, joined([encode(trace, preset, target.options)]))
    if receipt.rejected_spans:
        raise SpansRefused(f"the provider did not take the span: {receipt.words}")
    return receipt.words
