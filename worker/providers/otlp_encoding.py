"""Traces as OTLP's protobuf messages, one after another in a request.

A trace is encoded once, whoever it is sent together with: an export request is the
concatenation of its resource spans.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import (
    AnyValue,
    ArrayValue,
    InstrumentationScope,
    KeyValue,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2 as pb

from shared.submitting.trace_schema import Span, Trace
from shared.submitting.trace_values import Feedback, SpanKind, SpanStatus
from worker.providers.trace_attributes import (
    Attributes,
    evaluation,
    resource_attributes,
    root_attributes,
    span_attributes,
)
from worker.providers.trace_messages import written
from worker.providers.trace_presets import Preset, Values

_SCOPE = InstrumentationScope(name="rag-worker")
_CLIENT_KINDS = frozenset({SpanKind.LLM, SpanKind.EMBEDDING})
_STATUSES = {
    SpanStatus.UNSET: pb.Status.STATUS_CODE_UNSET,
    SpanStatus.OK: pb.Status.STATUS_CODE_OK,
    SpanStatus.ERROR: pb.Status.STATUS_CODE_ERROR,
}
_SAMPLED, _KNOWS_REMOTE = 0x01, pb.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
_REMOTE = pb.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK
_INT64 = 2**63
_PLAIN = {str, bool, int, float}


@dataclass(frozen=True, slots=True)
class EncodedTrace:
    """A trace, or some of its spans, ready to be sent.

    Attributes:
        span_ids: in order, as hex digits.
        content: a part of an export request.
    """

    trace_id: str
    span_ids: tuple[str, ...]
    content: bytes

    @property
    def span_count(self) -> int:
        """Its spans."""
        return len(self.span_ids)


def encode(trace: Trace, preset: Preset, options: Values) -> EncodedTrace:
    """Encode a trace as a provider wants it; the same again for the same trace."""
    resource = Resource(
        attributes=_pairs({**resource_attributes(trace), **preset.resource(options)})
    )
    spans = [_span(trace, span, preset) for span in trace.spans]
    return _encoded(resource, spans, trace.trace_id)


def only(encoded: EncodedTrace, span_ids: Iterable[str]) -> EncodedTrace:
    """The same with those spans only."""
    wanted = {bytes.fromhex(one) for one in span_ids}
    request = ExportTraceServiceRequest.FromString(encoded.content)
    resource = request.resource_spans[0].resource
    spans = request.resource_spans[0].scope_spans[0].spans
    return _encoded(resource, [one for one in spans if one.span_id in wanted], encoded.trace_id)


def joined(parts: Iterable[EncodedTrace]) -> bytes:
    """An ``ExportTraceServiceRequest`` of all of them, in that order."""
    return b"".join(part.content for part in parts)


def _encoded(resource: Resource, spans: Sequence[pb.Span], trace_id: str) -> EncodedTrace:
    request = ExportTraceServiceRequest(
        resource_spans=[
            pb.ResourceSpans(
                resource=resource, scope_spans=[pb.ScopeSpans(scope=_SCOPE, spans=spans)]
            )
        ]
    )
    ids = tuple(span.span_id.hex() for span in spans)
    return EncodedTrace(trace_id, ids, request.SerializeToString(deterministic=True))


def _span(trace: Trace, span: Span, preset: Preset) -> pb.Span:
    is_root = span.parent_span_id is None
    attributes = span_attributes(trace, span, preset.content)
    if is_root:
        attributes |= root_attributes(trace)
    attributes |= preset.attributes(trace, span, is_root=is_root)
    # The producer's own word goes before ours.
    attributes |= span.attributes
    feedback = [*span.feedback, *(trace.feedback if is_root else ())]
    is_client = span.kind in _CLIENT_KINDS
    return pb.Span(
        trace_id=bytes.fromhex(trace.trace_id),
        span_id=bytes.fromhex(span.span_id),
        parent_span_id=bytes.fromhex(span.parent_span_id or ""),
        flags=_SAMPLED | _KNOWS_REMOTE | (_REMOTE if span.is_parent_remote else 0),
        name=span.name,
        kind=pb.Span.SPAN_KIND_CLIENT if is_client else pb.Span.SPAN_KIND_INTERNAL,
        start_time_unix_nano=span.start_ns,
        end_time_unix_nano=span.end_ns,
        attributes=_pairs(attributes),
        events=[
            *(
                pb.Span.Event(
                    time_unix_nano=one.time_ns, name=one.name, attributes=_pairs(one.attributes)
                )
                for one in span.events
            ),
            *(_evaluation(one, span.end_ns) for one in feedback),
        ],
        status=pb.Status(code=_STATUSES[span.status], message=span.status_message or ""),
    )


def _evaluation(feedback: Feedback, time_ns: int) -> pb.Span.Event:
    return pb.Span.Event(
        time_unix_nano=time_ns,
        name="gen_ai.evaluation.result",
        attributes=_pairs(evaluation(feedback)),
    )


def _pairs(attributes: Attributes) -> list[KeyValue]:
    return [
        KeyValue(key=name, value=_value(value))
        for name, value in attributes.items()
        if value is not None
    ]


def _value(value: Any) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=value)
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        # Beyond 64 bits only text holds it.
        fits = -_INT64 <= value < _INT64
        return AnyValue(int_value=value) if fits else AnyValue(string_value=str(value))
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, list | tuple) and len({type(one) for one in value} - _PLAIN) == 0:
        return AnyValue(array_value=ArrayValue(values=[_value(one) for one in value]))
    # Receivers that flatten nested values do so each in its own way: JSON is JSON.
    return AnyValue(string_value=written(value))
