"""Spans of OpenTelemetry as ours: gen_ai.*, OpenInference and OpenLLMetry attributes are read.

Nothing an application puts into a span may break this: what fits nowhere stays an attribute.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from shared.submitting.otel_messages import input_of, is_message_event, output_of
from shared.submitting.otel_values import Attributes, plain
from shared.submitting.trace_values import SpanKind, SpanStatus, storable_text

_NANOSECONDS = 1_000_000_000
_NAME_CHARACTERS = 512
_LABEL_CHARACTERS = 256
_MOST_TOKENS = 2**53
_OPERATIONS = {
    "chat": SpanKind.LLM,
    "text_completion": SpanKind.LLM,
    "completion": SpanKind.LLM,
    "generate_content": SpanKind.LLM,
    "embeddings": SpanKind.EMBEDDING,
    "retrieval": SpanKind.RETRIEVER,
    "execute_tool": SpanKind.TOOL,
    "invoke_agent": SpanKind.AGENT,
    "create_agent": SpanKind.AGENT,
    "tool": SpanKind.TOOL,
    "agent": SpanKind.AGENT,
    "evaluator": SpanKind.GUARDRAIL,
}
_KINDS = {kind.value: kind for kind in SpanKind}


class OtelContext(Protocol):
    """Whose span it is."""

    @property
    def trace_id(self) -> int: ...
    @property
    def span_id(self) -> int: ...
    @property
    def is_remote(self) -> bool: ...


class OtelEvent(Protocol):
    """A span's event."""

    @property
    def name(self) -> str: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def attributes(self) -> Mapping[str, Any] | None: ...


class OtelSpan(Protocol):
    """The part of ``opentelemetry.sdk.trace.ReadableSpan`` that is read."""

    @property
    def name(self) -> str: ...
    @property
    def context(self) -> Any: ...
    @property
    def parent(self) -> Any: ...
    @property
    def start_time(self) -> int | None: ...
    @property
    def end_time(self) -> int | None: ...
    @property
    def attributes(self) -> Mapping[str, Any] | None: ...
    @property
    def events(self) -> Sequence[Any]: ...
    @property
    def status(self) -> Any: ...
    @property
    def resource(self) -> Any: ...


def span_of(span: OtelSpan, attributes: Attributes) -> dict[str, Any]:
    """A span as ``trace_schema.Span`` takes it; ``attributes`` are its own, partly used up."""
    events = [(one.name, plain(dict(one.attributes or {}))) for one in span.events]
    start_ns = span.start_time or 0
    made: dict[str, Any] = {
        "span_id": f"{span.context.span_id:016x}",
        "name": named(span.name),
        "kind": _kind(attributes),
        "start_ns": start_ns,
        "end_ns": max(span.end_time or start_ns, start_ns),
        "status": SpanStatus(span.status.status_code.name.lower()),
        "status_message": span.status.description,
        "model": _model(attributes),
        "usage": _usage(attributes),
        "cost": _cost(attributes),
        "input": input_of(attributes, events),
        "output": output_of(attributes, events),
        "documents": _documents(attributes),
        "events": [
            {"name": named(one.name), "time_ns": one.timestamp, "attributes": said}
            for one, (_, said) in zip(span.events, events, strict=True)
            if not is_message_event(one.name)
        ],
    }
    seconds = attributes.number("gen_ai.response.time_to_first_chunk")
    if seconds is not None:
        made["time_to_first_token_ns"] = int(seconds * _NANOSECONDS)
    if span.parent is not None:
        made["parent_span_id"] = f"{span.parent.span_id:016x}"
        made["is_parent_remote"] = bool(span.parent.is_remote)
    made["attributes"] = attributes.rest()
    return {name: value for name, value in made.items() if value is not None}


def named(text: Any) -> str:
    """A name of the length that names have; never empty."""
    return storable_text(str(text))[:_NAME_CHARACTERS] or "span"


def label(text: str | None) -> str | None:
    """Likewise of what is shorter; ``None`` when there is nothing."""
    return (storable_text(text)[:_LABEL_CHARACTERS] or None) if text else None


def _kind(attributes: Attributes) -> SpanKind:
    said = attributes.text("openinference.span.kind")
    operation = attributes.text("gen_ai.operation.name")
    traceloop = attributes.text("traceloop.span.kind")
    for one in (said, operation, traceloop):
        word = (one or "").lower()
        if word in _KINDS:
            return _KINDS[word]
        if word in _OPERATIONS:
            return _OPERATIONS[word]
    return SpanKind.CHAIN


def _model(attributes: Attributes) -> dict[str, Any] | None:
    said = attributes.json("llm.invocation_parameters", "embedding.invocation_parameters")
    parameters: dict[str, Any] = dict(said) if isinstance(said, dict) else {}
    made: dict[str, Any] = {
        "provider": label(
            attributes.text("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system")
        ),
        "request_model": label(
            attributes.text(
                "gen_ai.request.model",
                "llm.model_name",
                "embedding.model_name",
                "reranker.model_name",
            )
        ),
        "response_model": label(attributes.text("gen_ai.response.model")),
    }
    parameters |= attributes.below("gen_ai.request.")
    parameters.pop("model", None)
    made["parameters"] = parameters
    return {name: value for name, value in made.items() if value} or None


def _usage(attributes: Attributes) -> dict[str, int] | None:
    counted = {
        "input_tokens": attributes.count(
            "gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt"
        ),
        "output_tokens": attributes.count(
            "gen_ai.usage.output_tokens",
            "gen_ai.usage.completion_tokens",
            "llm.token_count.completion",
        ),
        "total_tokens": attributes.count(
            "gen_ai.usage.total_tokens", "llm.usage.total_tokens", "llm.token_count.total"
        ),
        "cached_input_tokens": attributes.count(
            "gen_ai.usage.cache_read.input_tokens",
            "gen_ai.usage.cache_read_input_tokens",
            "llm.token_count.prompt_details.cache_read",
        ),
        "reasoning_tokens": attributes.count(
            "gen_ai.usage.reasoning.output_tokens",
            "gen_ai.usage.reasoning_tokens",
            "llm.token_count.completion_details.reasoning",
        ),
    }
    return {
        name: one for name, one in counted.items() if one is not None and one <= _MOST_TOKENS
    } or None


def _cost(attributes: Attributes) -> dict[str, float] | None:
    said = {
        "input": attributes.number("llm.cost.prompt"),
        "output": attributes.number("llm.cost.completion"),
        "total": attributes.number("gen_ai.usage.cost", "llm.cost.total"),
    }
    return {name: one for name, one in said.items() if one is not None} or None


def _documents(attributes: Attributes) -> list[dict[str, Any]]:
    found = attributes.listed("retrieval.documents.")
    found = found or attributes.listed("reranker.output_documents.")
    inner = [one.get("document", one) for one in found if isinstance(one, dict)]
    plainly = attributes.json("gen_ai.retrieval.documents")
    if not inner and isinstance(plainly, list):
        inner = [one for one in plainly if isinstance(one, dict)]
    return [_document(one) for one in inner if isinstance(one, dict)]


def _document(found: Mapping[str, Any]) -> dict[str, Any]:
    metadata = Attributes(found).json("metadata")
    score, content = found.get("score"), found.get("content")
    made: dict[str, Any] = {
        "id": label(str(found["id"])) if found.get("id") is not None else None,
        "content": content if content is None or isinstance(content, str) else str(content),
        "score": score if isinstance(score, int | float) and not isinstance(score, bool) else None,
        "metadata": metadata if isinstance(metadata, dict) else None,
    }
    return {name: value for name, value in made.items() if value is not None}
