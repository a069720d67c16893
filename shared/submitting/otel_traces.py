"""Batches of OpenTelemetry's spans as traces: grouped by trace, with what is said of the whole."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from shared.submitting.otel_spans import OtelSpan, label, named, span_of
from shared.submitting.otel_values import Attributes
from shared.submitting.trace_values import SpanKind, TraceKind

#: Attributes, of a span or its resource, that say whose trace it is.
TENANT, APP = "rag_worker.tenant_id", "rag_worker.app_id"
_KINDS = {kind.value: kind for kind in TraceKind}
_KIND_OF_ROOT = {SpanKind.LLM: TraceKind.CHAT, SpanKind.RETRIEVER: TraceKind.RETRIEVAL}


@dataclass(frozen=True, slots=True)
class Draft:
    """A trace, or a part of one, as ``record_trace`` takes it.

    Attributes:
        tenant_id: as a span or its resource says; ``None`` when none does.
    """

    tenant_id: str | None
    trace: dict[str, Any]


def drafts_of(spans: Iterable[OtelSpan], tenant_id: str | None, app_id: str | None) -> list[Draft]:
    """Spans of one batch by tenant and trace; ids and app are for spans that say none."""
    groups: dict[tuple[str | None, str], list[tuple[OtelSpan, Attributes]]] = {}
    for span in spans:
        attributes = Attributes(span.attributes)
        resource = dict(span.resource.attributes) if span.resource else {}
        owner = attributes.text(TENANT) or resource.get(TENANT) or tenant_id
        key = (str(owner) if owner else None, f"{span.context.trace_id:032x}")
        groups.setdefault(key, []).append((span, attributes))
    return [
        Draft(owner, _trace(trace_id, group, app_id)) for (owner, trace_id), group in groups.items()
    ]


def _trace(
    trace_id: str, group: Sequence[tuple[OtelSpan, Attributes]], app_id: str | None
) -> dict[str, Any]:
    whole = _whole(group)
    spans = [span_of(span, attributes) for span, attributes in group]
    known = {one["span_id"] for one in spans}
    # Local: the one this process's part of the trace began with.
    roots = [one for one in spans if one.get("is_parent_remote") or "parent_span_id" not in one]
    first = roots[0] if roots else spans[0]
    kind = _KINDS.get(str(whole.pop("kind", "")).lower())
    resource = dict(group[0][0].resource.attributes) if group[0][0].resource else {}
    made = {
        "trace_id": trace_id,
        "name": named(whole.pop("name", None) or first["name"]),
        "kind": kind or _KIND_OF_ROOT.get(first["kind"], TraceKind.WORKFLOW),
        "spans": spans,
        # Parents end after their children: they come with a later batch.
        "continues": any(one.get("parent_span_id", first["span_id"]) not in known for one in spans),
        "app_id": label(whole.pop("app_id", None) or _text(resource.get(APP)) or app_id),
        "release": label(_text(resource.get("service.version"))),
        "environment": label(
            _text(
                resource.get("deployment.environment.name")
                or resource.get("deployment.environment")
            )
        ),
        **whole,
    }
    return {name: value for name, value in made.items() if value is not None}


def _whole(group: Sequence[tuple[OtelSpan, Attributes]]) -> dict[str, Any]:
    """What any of the spans says of the trace; the first that does wins."""
    made: dict[str, Any] = {}
    for _, attributes in group:
        said = {
            "session_id": label(
                attributes.text("session.id", "gen_ai.conversation.id", "langfuse.session.id")
            ),
            "user_id": label(attributes.text("user.id", "enduser.id", "langfuse.user.id")),
            "app_id": attributes.text(APP),
            "name": attributes.text("rag_worker.trace.name", "langfuse.trace.name"),
            "kind": attributes.text("rag_worker.trace.kind"),
            "tags": _tags(attributes.json("tag.tags", "langfuse.trace.tags")),
            "metadata": attributes.json("metadata"),
        }
        if not isinstance(said["metadata"], dict):
            said["metadata"] = None
        made = {**{name: value for name, value in said.items() if value}, **made}
    return made


def _tags(found: Any) -> list[str] | None:
    if not isinstance(found, list):
        return None
    return [tag for one in found if (tag := label(str(one)))]


def _text(value: Any) -> str | None:
    return str(value) if value else None
