"""A trace: the tree of spans of one chat, completion, workflow or retrieval run.

The schema has a version. What was stored by an older release is read by this one; see
``trace_payload``.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal, Self

from pydantic import Field, model_validator

from shared.submitting.trace_ids import span_id_of, trace_id_of
from shared.submitting.trace_values import (
    Attributes,
    Cost,
    Feedback,
    Json,
    Label,
    ModelCall,
    Name,
    Nanoseconds,
    Part,
    RetrievedDocument,
    SpanEvent,
    SpanKind,
    SpanStatus,
    Text,
    TraceKind,
    Usage,
)

SCHEMA_VERSION: Final = 1


class Span(Part):
    """One step of a run.

    Attributes:
        span_id: any id of the producer's; 16 hex digits afterwards.
        parent_span_id: of a span of the same trace.
        is_parent_remote: the parent is recorded elsewhere, or later.
        start_ns: nanoseconds since 1970; an aware datetime is taken too.
        end_ns: likewise.
        input: any JSON; chat messages are a list of ``{"role": …, "content": …}``.
        output: likewise.
        time_to_first_token_ns: from the start; of streamed answers.
        attributes: whatever else is to be seen, by name.
    """

    span_id: str
    parent_span_id: str | None = None
    is_parent_remote: bool = False
    name: Name
    kind: SpanKind = SpanKind.CHAIN
    start_ns: Nanoseconds
    end_ns: Nanoseconds
    status: SpanStatus = SpanStatus.UNSET
    status_message: Text | None = None
    model: ModelCall | None = None
    usage: Usage | None = None
    cost: Cost | None = None
    input: Json = None
    output: Json = None
    documents: tuple[RetrievedDocument, ...] = ()
    attributes: Attributes = Field(default_factory=dict)
    events: tuple[SpanEvent, ...] = ()
    feedback: tuple[Feedback, ...] = ()
    time_to_first_token_ns: int | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _ends_after_its_start(self) -> Self:
        if self.end_ns < self.start_ns:
            raise ValueError(f"span {self.name!r} ends before it starts")
        return self


class Trace(Part):
    """One run, whole or in part; spans stand in order: parents before their children.

    Attributes:
        trace_id: any id of the producer's; 32 hex digits afterwards.
        continues: more of a trace of which some was recorded before: parents may be there.
        session_id: the conversation's.
        environment: ``production``, ``staging`` …
        release: of the application.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    trace_id: str
    name: Name
    kind: TraceKind = TraceKind.CHAT
    spans: tuple[Span, ...] = Field(min_length=1)
    continues: bool = False
    app_id: Label | None = None
    user_id: Label | None = None
    session_id: Label | None = None
    tags: tuple[Label, ...] = ()
    metadata: Attributes = Field(default_factory=dict)
    feedback: tuple[Feedback, ...] = ()
    environment: Label | None = None
    release: Label | None = None

    @model_validator(mode="before")
    @classmethod
    def _makes_ids(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or given.get("trace_id") is None:
            return given
        trace_id = trace_id_of(given["trace_id"])
        spans = given.get("spans")
        if isinstance(spans, list | tuple):
            spans = [_with_ids(trace_id, one) for one in spans]
        return {**given, "trace_id": trace_id, "spans": spans}

    @model_validator(mode="after")
    def _is_a_forest(self) -> Self:
        known: set[str] = set()
        for span in self.spans:
            if span.span_id in known:
                raise ValueError(f"span id {span.span_id} ({span.name!r}) is there twice")
            known.add(span.span_id)
        for span in self.spans:
            is_missing = span.parent_span_id is not None and span.parent_span_id not in known
            if is_missing and not (span.is_parent_remote or self.continues):
                raise ValueError(
                    f"the parent of span {span.name!r} is not in the trace: "
                    "add it, or say is_parent_remote"
                )
        object.__setattr__(self, "spans", _in_order(self.spans))
        return self

    @property
    def roots(self) -> tuple[Span, ...]:
        """The spans without a parent among these; the first is the earliest."""
        known = {span.span_id for span in self.spans}
        return tuple(span for span in self.spans if span.parent_span_id not in known)

    @property
    def awaits_parents(self) -> bool:
        """Whether a parent is missing that is neither here nor said to be elsewhere."""
        return any(one.parent_span_id and not one.is_parent_remote for one in self.roots)

    @property
    def has_root(self) -> bool:
        """Whether the span that has no parent at all is among these."""
        return any(span.parent_span_id is None for span in self.spans)


def _with_ids(trace_id: str, span: Any) -> Any:
    if isinstance(span, Span):
        span = dict(span)
    if not isinstance(span, Mapping):
        return span
    made = dict(span)
    for name in ("span_id", "parent_span_id"):
        if made.get(name) is not None:
            made[name] = span_id_of(trace_id, made[name])
    return made


def _in_order(spans: tuple[Span, ...]) -> tuple[Span, ...]:
    """Roots by their start, each with what is below it right behind; a loop has no root."""
    known = {span.span_id for span in spans}
    children: dict[str | None, list[Span]] = {}
    by_time = sorted(spans, key=lambda one: (one.start_ns, one.end_ns))
    # Taken from the end later on: of those that start together the first stays the first.
    for span in by_time[::-1]:
        parent = span.parent_span_id if span.parent_span_id in known else None
        children.setdefault(parent, []).append(span)
    ordered: list[Span] = []
    waiting = children.pop(None, [])
    while waiting:
        span = waiting.pop()
        ordered.append(span)
        waiting += children.pop(span.span_id, [])
    if len(ordered) < len(spans):
        looped = next(one for one in spans if one not in ordered)
        raise ValueError(f"span {looped.name!r} is its own ancestor")
    return tuple(ordered)
