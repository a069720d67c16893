"""Attributes that one provider alone understands; they go before the common ones."""

from datetime import UTC, datetime

from shared.submitting.trace_schema import Span, Trace
from shared.submitting.trace_values import SpanKind, SpanStatus
from worker.providers.trace_attributes import Attributes, total_cost
from worker.providers.trace_messages import written

_NANOSECONDS = 1_000_000_000
_LANGFUSE_TYPES = {
    SpanKind.LLM: "generation",
    SpanKind.RERANKER: "span",
}
_LANGSMITH_TYPES = {
    SpanKind.LLM: "llm",
    SpanKind.TOOL: "tool",
    SpanKind.RETRIEVER: "retriever",
    SpanKind.EMBEDDING: "embedding",
}


def langfuse(trace: Trace, span: Span, *, is_root: bool) -> Attributes:
    """``langfuse.*``: it reads these before any other name."""
    kind = _LANGFUSE_TYPES.get(span.kind, span.kind.value)
    made: Attributes = {"langfuse.observation.type": kind}
    if span.input is not None:
        made["langfuse.observation.input"] = written(span.input)
    if span.output is not None:
        made["langfuse.observation.output"] = written(span.output)
    if span.status is SpanStatus.ERROR:
        made["langfuse.observation.level"] = "ERROR"
    if span.status_message:
        made["langfuse.observation.status_message"] = span.status_message
    made |= _langfuse_model(span)
    if trace.session_id:
        made["langfuse.session.id"] = trace.session_id
    if trace.user_id:
        made["langfuse.user.id"] = trace.user_id
    if trace.environment:
        made["langfuse.environment"] = trace.environment
    if trace.release:
        made["langfuse.release"] = trace.release
    if is_root:
        made |= _langfuse_trace(trace, span)
    return made


def _langfuse_trace(trace: Trace, root: Span) -> Attributes:
    made: Attributes = {"langfuse.trace.name": trace.name}
    if trace.tags:
        made["langfuse.trace.tags"] = list(trace.tags)
    for name, value in trace.metadata.items():
        made[f"langfuse.trace.metadata.{name}"] = written(value)
    if root.input is not None:
        made["langfuse.trace.input"] = written(root.input)
    if root.output is not None:
        made["langfuse.trace.output"] = written(root.output)
    return made


def _langfuse_model(span: Span) -> Attributes:
    made: Attributes = {}
    model, usage, cost = span.model, span.usage, span.cost
    if model is not None:
        name = model.response_model or model.request_model
        if name:
            made["langfuse.observation.model.name"] = name
        if model.parameters:
            made["langfuse.observation.model.parameters"] = written(model.parameters)
    if usage is not None:
        # Keys of one kind add up there: what was cached is no longer part of the input.
        counts = {
            "input": _less(usage.input_tokens, usage.cached_input_tokens),
            "input_cached_tokens": usage.cached_input_tokens,
            "output": _less(usage.output_tokens, usage.reasoning_tokens),
            "output_reasoning_tokens": usage.reasoning_tokens,
            "total": usage.total,
        }
        made["langfuse.observation.usage_details"] = _json_of(counts)
    if cost is not None and cost.currency == "USD":
        amounts = {"input": cost.input, "output": cost.output, "total": total_cost(cost)}
        made["langfuse.observation.cost_details"] = _json_of(amounts)
    if span.time_to_first_token_ns is not None:
        first = (span.start_ns + span.time_to_first_token_ns) / _NANOSECONDS
        said = datetime.fromtimestamp(first, UTC).isoformat().replace("+00:00", "Z")
        # In quotes, as its own clients send it.
        made["langfuse.observation.completion_start_time"] = f'"{said}"'
    return made


def langsmith(trace: Trace, span: Span, *, is_root: bool) -> Attributes:
    """``langsmith.*``: the run's type, tags, and the metadata that makes threads."""
    made: Attributes = {"langsmith.span.kind": _LANGSMITH_TYPES.get(span.kind, "chain")}
    if trace.session_id:
        made["langsmith.metadata.session_id"] = trace.session_id
    if trace.user_id:
        made["langsmith.metadata.user_id"] = trace.user_id
    if trace.tags:
        made["langsmith.span.tags"] = ",".join(tag.replace(",", " ") for tag in trace.tags)
    if span.usage is not None and span.usage.reasoning_tokens is not None:
        made["gen_ai.usage.details.reasoning_tokens"] = span.usage.reasoning_tokens
    if is_root:
        for name, value in trace.metadata.items():
            made[f"langsmith.metadata.{name}"] = written(value)
        if trace.environment:
            made["langsmith.metadata.environment"] = trace.environment
        if trace.release:
            made["langsmith.metadata.revision_id"] = trace.release
    return made


def opik(trace: Trace, span: Span, *, is_root: bool) -> Attributes:  # noqa: ARG001 - the others'
    """``opik.*``: tags, metadata, the thread."""
    # Whatever is called usage is counted there, in whole numbers.
    made: Attributes = {"gen_ai.usage.cost": None}
    if trace.session_id:
        made["thread_id"] = trace.session_id
    if is_root:
        if trace.tags:
            made["opik.tags"] = list(trace.tags)
        for name, value in trace.metadata.items():
            made[f"opik.metadata.{name}"] = written(value)
    return made


def weave(trace: Trace, span: Span, *, is_root: bool) -> Attributes:  # noqa: ARG001 - the others'
    """``wandb.*``: a session is a thread there, its traces are the turns."""
    if not trace.session_id:
        return {}
    return {"wandb.thread_id": trace.session_id, "wandb.is_turn": is_root}


def _less(whole: int | None, part: int | None) -> int | None:
    return None if whole is None else max(whole - (part or 0), 0)


def _json_of(values: dict[str, int | None] | dict[str, float | None]) -> str:
    return written({name: value for name, value in values.items() if value is not None})
