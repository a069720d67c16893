"""Which spans are recorded, and what of them leaves the house."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, Status, TraceState, get_current_span
from opentelemetry.util.types import Attributes

from shared.settings.redaction import redacted, redacted_value

_QUERIES = re.compile(r"\?[^#]*")
#: Attributes with an address whose query is nobody's business.
_ADDRESSES = {"http.url", "url.full", "http.target", "url.path"}
_DROPPED = {"url.query"}
#: A worker's name looks like a mail address, and is none.
_NODES = {"celery.hostname", "celery.reply_to"}


class OnlyWork(Sampler):
    """Leaves out what nobody asked for: the polling of the broker and of the outbox.

    Args:
        then: decides on the others.
    """

    def __init__(self, then: Sampler) -> None:
        self._then = then

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """A call to a server outside of any trace is dropped."""
        parent = get_current_span(parent_context).get_span_context()
        if kind is SpanKind.CLIENT and not parent.is_valid:
            return SamplingResult(Decision.DROP)
        return self._then.should_sample(
            parent_context, trace_id, name, kind, attributes, links, trace_state
        )

    def get_description(self) -> str:
        """For people."""
        return f"OnlyWork({self._then.get_description()})"


class Redacted(SpanExporter):
    """Sends spans without secrets and mail addresses.

    Args:
        exporter: sends them.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch."""
        return self._exporter.export([_without_secrets(span) for span in spans])

    def shutdown(self) -> None:
        """See ``SpanExporter``."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """See ``SpanExporter``."""
        return self._exporter.force_flush(timeout_millis)


def _without_secrets(span: ReadableSpan) -> ReadableSpan:
    words = span.status.description
    return ReadableSpan(
        name=redacted(span.name, mail_addresses=True),
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=_shown(span.attributes),
        events=[Event(one.name, _shown(one.attributes), one.timestamp) for one in span.events],
        links=span.links,
        kind=span.kind,
        status=Status(span.status.status_code, words and redacted(words, mail_addresses=True)),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _shown(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        name: _one(name, value)
        for name, value in (attributes or {}).items()
        if name not in _DROPPED
    }


def _one(name: str, value: Any) -> Any:
    if name in _ADDRESSES and isinstance(value, str):
        value = _QUERIES.sub("", value)
    shown = redacted_value({name: value}, mail_addresses=name not in _NODES)
    return shown[name]
