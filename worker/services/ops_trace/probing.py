"""A configuration is tried with one span, so that a person sees what its provider says."""

import time
from dataclasses import dataclass
from typing import Protocol
from uuid import uuid4

from shared.submitting.trace_configs import TraceTarget
from shared.submitting.trace_schema import Span, Trace

_NANOSECONDS_A_MILLISECOND = 1_000_000


class SendsTraces(Protocol):
    """Whoever carries a trace to a provider, once."""

    def __call__(self, target: TraceTarget, trace: Trace) -> str:
        """Send it; returns what the provider said.

        Raises:
            Transient: the provider does not answer, or says "later".
            Permanent: it refuses, and its words say why.
        """


@dataclass(frozen=True, slots=True)
class Probe:
    """What a provider took."""

    trace_id: str
    words: str


def probe(target: TraceTarget, send: SendsTraces) -> Probe:
    """Send one span, marked as a test.

    Raises:
        Transient: the provider does not answer, or says "later".
        Permanent: it refuses, and its words say why.
    """
    now_ns = time.time_ns()
    span = Span(
        span_id="test",
        name="rag-worker test",
        start_ns=now_ns - _NANOSECONDS_A_MILLISECOND,
        end_ns=now_ns,
        input="Does rag-worker reach you?",
        output="It does.",
    )
    trace = Trace(trace_id=uuid4().hex, name=span.name, spans=(span,), tags=("rag-worker-test",))
    return Probe(trace.trace_id, send(target, trace))
