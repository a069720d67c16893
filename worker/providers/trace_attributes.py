"""A span's fields as attributes: OpenTelemetry's GenAI conventions, old and new, and OpenInference.

The conventions still move, and receivers lag behind them: what is short is said under
every name in use, contents only under those that a provider reads.

Sources: open-telemetry/semantic-conventions-genai ("Development" in 2026), its state of
1.36 for the old names, and Arize-ai/openinference's semantic conventions.
"""

from collections.abc import Callable, Iterable, Mapping
from enum import Flag, auto
from typing import Any

from shared.submitting.trace_schema import Span, Trace
from shared.submitting.trace_values import Cost, Feedback, ModelCall, SpanKind, Usage
from worker.providers.trace_messages import (
    in_parts,
    media_type,
    messages_of,
    numbered,
    numbered_old,
    written,
)

Attributes = dict[str, Any]

_NANOSECONDS = 1_000_000_000
_OPERATIONS = {
    SpanKind.EMBEDDING: "embeddings",
    SpanKind.RETRIEVER: "retrieval",
    SpanKind.TOOL: "execute_tool",
    SpanKind.AGENT: "invoke_agent",
}
_MODEL_NAMES = {
    SpanKind.LLM: "llm.model_name",
    SpanKind.EMBEDDING: "embedding.model_name",
    SpanKind.RERANKER: "reranker.model_name",
}


class Content(Flag):
    """Under which names inputs and outputs go out."""

    VALUES = auto()  #: ``input.value``, of every span
    PARTS = auto()  #: ``gen_ai.input.messages``
    OLD = auto()  #: ``gen_ai.prompt``, ``gen_ai.prompt.0.role``
    MESSAGES = auto()  #: ``llm.input_messages.0.message.role``


def span_attributes(trace: Trace, span: Span, content: Content) -> Attributes:
    """What every provider is told of a span."""
    made: Attributes = {"openinference.span.kind": span.kind.value.upper()}
    _put(
        made,
        {
            "gen_ai.operation.name": operation_of(span),
            "session.id": trace.session_id,
            "gen_ai.conversation.id": trace.session_id,
            "user.id": trace.user_id,
        },
    )
    if span.model is not None:
        _put(made, _model(span.model, span.kind))
    if span.usage is not None:
        _put(made, _usage(span.usage))
    if span.cost is not None:
        _put(made, _cost(span.cost))
    if span.time_to_first_token_ns is not None:
        seconds = span.time_to_first_token_ns / _NANOSECONDS
        made["gen_ai.response.time_to_first_chunk"] = seconds
    if span.documents:
        _put(made, _documents(span))
    special = _SPECIAL.get(span.kind)
    if special is not None:
        _put(made, special(span))
    _put(made, _contents(span, content))
    return made


def root_attributes(trace: Trace) -> Attributes:
    """What is said once, on the span without a parent."""
    made: Attributes = {"rag_worker.trace.name": trace.name, "rag_worker.trace.kind": trace.kind}
    if trace.app_id:
        made["rag_worker.app_id"] = trace.app_id
    if trace.tags:
        made["tag.tags"] = list(trace.tags)
    if trace.metadata:
        made["metadata"] = written(trace.metadata)
    return made


def resource_attributes(trace: Trace) -> Attributes:
    """Who made the spans."""
    made: Attributes = {"service.name": trace.app_id or "rag-worker"}
    if trace.release:
        made["service.version"] = trace.release
    if trace.environment:
        made["deployment.environment.name"] = trace.environment
        made["deployment.environment"] = trace.environment
    return made


def operation_of(span: Span) -> str | None:
    """``gen_ai.operation.name``; the conventions know none for the other kinds."""
    if span.kind is SpanKind.LLM:
        return "chat" if messages_of(span.input) else "text_completion"
    return _OPERATIONS.get(span.kind)


def evaluation(feedback: Feedback) -> Attributes:
    """One feedback as the conventions' event ``gen_ai.evaluation.result`` has it."""
    made: Attributes = {"gen_ai.evaluation.name": feedback.name}
    score = feedback.score
    if isinstance(score, bool):
        made["gen_ai.evaluation.score.value"] = float(score)
        made["gen_ai.evaluation.score.label"] = "true" if score else "false"
    elif isinstance(score, str):
        made["gen_ai.evaluation.score.label"] = score
    elif score is not None:
        made["gen_ai.evaluation.score.value"] = float(score)
    if feedback.comment:
        made["gen_ai.evaluation.explanation"] = feedback.comment
    return made


def _model(model: ModelCall, kind: SpanKind) -> Attributes:
    made: Attributes = {
        "gen_ai.provider.name": model.provider,
        "gen_ai.system": model.provider,
        "gen_ai.request.model": model.request_model,
        "gen_ai.response.model": model.response_model,
    }
    if kind is SpanKind.LLM:
        made["llm.provider"] = made["llm.system"] = model.provider
    named = _MODEL_NAMES.get(kind)
    if named is not None:
        made[named] = model.response_model or model.request_model
    if model.parameters:
        for name, value in model.parameters.items():
            made[f"gen_ai.request.{name}"] = value
        if kind is not SpanKind.RERANKER:
            prefix = "embedding" if kind is SpanKind.EMBEDDING else "llm"
            made[f"{prefix}.invocation_parameters"] = written(model.parameters)
    return made


def _usage(usage: Usage) -> Attributes:
    return {
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        "gen_ai.usage.total_tokens": usage.total,
        "gen_ai.usage.prompt_tokens": usage.input_tokens,
        "gen_ai.usage.completion_tokens": usage.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_input_tokens,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
        "llm.token_count.prompt": usage.input_tokens,
        "llm.token_count.completion": usage.output_tokens,
        "llm.token_count.total": usage.total,
        "llm.token_count.prompt_details.cache_read": usage.cached_input_tokens,
        "llm.token_count.completion_details.reasoning": usage.reasoning_tokens,
    }


def _cost(cost: Cost) -> Attributes:
    if cost.currency != "USD":  # every one of these names means dollars
        return {"rag_worker.cost": written(cost.model_dump(mode="json", exclude_none=True))}
    return {
        "gen_ai.usage.cost": total_cost(cost),
        "llm.cost.prompt": cost.input,
        "llm.cost.completion": cost.output,
        "llm.cost.total": total_cost(cost),
    }


def total_cost(cost: Cost) -> float | None:
    """As it was said, else of input and output."""
    if cost.total is not None or (cost.input is None and cost.output is None):
        return cost.total
    return (cost.input or 0.0) + (cost.output or 0.0)


def _documents(span: Span) -> Attributes:
    is_reranker = span.kind is SpanKind.RERANKER
    prefix = "reranker.output_documents" if is_reranker else "retrieval.documents"
    made: Attributes = {}
    for number, document in enumerate(span.documents):
        name = f"{prefix}.{number}.document"
        made[f"{name}.id"] = document.id
        made[f"{name}.content"] = document.content
        made[f"{name}.score"] = document.score
        if document.metadata:
            made[f"{name}.metadata"] = written(document.metadata)
    if not is_reranker:
        found = [{"id": one.id, "score": one.score} for one in span.documents]
        made["gen_ai.retrieval.documents"] = written(found)
    return made


def _tool(span: Span) -> Attributes:
    made: Attributes = {"gen_ai.tool.name": span.name, "tool.name": span.name}
    if span.input is not None:
        made["gen_ai.tool.call.arguments"] = made["tool.parameters"] = written(span.input)
    if span.output is not None:
        made["gen_ai.tool.call.result"] = written(span.output)
    return made


def _agent(span: Span) -> Attributes:
    return {"gen_ai.agent.name": span.name, "agent.name": span.name}


def _retriever(span: Span) -> Attributes:
    query = span.input
    if isinstance(query, Mapping):
        query = query.get("query")
    return {"gen_ai.retrieval.query.text": query if isinstance(query, str) else None}


_SPECIAL: dict[SpanKind, Callable[[Span], Attributes]] = {
    SpanKind.TOOL: _tool,
    SpanKind.AGENT: _agent,
    SpanKind.RETRIEVER: _retriever,
}


def _contents(span: Span, content: Content) -> Attributes:
    made: Attributes = {}
    sides = (
        ("input", span.input, "gen_ai.prompt"),
        ("output", span.output, "gen_ai.completion"),
    )
    for side, value, old in sides:
        if value is None:
            continue
        if Content.VALUES in content:
            made[f"{side}.value"] = written(value)
            made[f"{side}.mime_type"] = media_type(value)
        if span.kind in {SpanKind.LLM, SpanKind.AGENT}:
            made.update(_messages(side, value, old, content))
    return made


def _messages(side: str, value: Any, old: str, content: Content) -> Iterable[tuple[str, str]]:
    messages = messages_of(value)
    if not messages and isinstance(value, str):
        messages = [{"role": "user" if side == "input" else "assistant", "content": value}]
    if Content.OLD in content:
        if messages:
            yield from numbered_old(old, messages)
        else:
            yield old, written(value)
    if Content.PARTS in content and messages:
        yield f"gen_ai.{side}.messages", in_parts(messages)
    if Content.MESSAGES in content:
        yield from numbered(f"llm.{side}_messages", messages)


def _put(made: Attributes, more: Attributes) -> None:
    for name, value in more.items():
        if value is not None:
            made[name] = value
