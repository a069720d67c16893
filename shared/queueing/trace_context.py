"""Whose trace a message belongs to: what it carries from its producer to its task.

It travels in the message's headers, and in the outbox with the row, as W3C Trace
Context (https://www.w3.org/TR/trace-context/) and as the producer's request id. No
library is loaded for it: where OpenTelemetry is in use, its current span is read.
"""

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, Protocol

TRACEPARENT, TRACESTATE, REQUEST_ID = "traceparent", "tracestate", "request_id"
#: The headers of a message, as they are called in the outbox too.
CARRIED = (TRACEPARENT, TRACESTATE, REQUEST_ID)

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-.{2}")
_TRACESTATE = re.compile(r"[\x20-\x7e]{1,512}")
#: What may stand in a log line: somebody outside has chosen it.
_REQUEST_ID = re.compile(r"[\w.:@/+=-]{1,128}", re.ASCII)


#: Adds an attribute, by name, to a span that has begun.
Note = Callable[[str, Any], None]


class Spans(Protocol):
    """What OpenTelemetry adds, where ``shared.extensions.telemetry`` is on."""

    def publishing(
        self, task: str, message_id: str, headers: dict[str, str]
    ) -> AbstractContextManager[None]:
        """A span round the publishing of a message; ``headers`` are made to say so."""

    def calling(self, name: str, attributes: Mapping[str, Any]) -> AbstractContextManager[Note]:
        """A span round a call of another service; an error that leaves it is the span's too."""


class _Process:
    spans: Spans | None = None


#: What ``carrying`` was called with, or the headers of the message whose task runs.
_given: ContextVar[Mapping[str, str]] = ContextVar("trace_headers", default={})  # noqa: B039 - never written to


def use_spans(spans: Spans | None) -> None:
    """Have OpenTelemetry record what this process publishes and calls."""
    _Process.spans = spans


@contextmanager
def carrying(
    traceparent: str | None = None, tracestate: str | None = None, request_id: str | None = None
) -> Iterator[None]:
    """Let what is submitted in the block belong to a trace; values that are malformed are left out.

    For producers without OpenTelemetry; in a request of Flask its headers
    ``traceparent``, ``tracestate`` and ``X-Request-Id`` are read without it.
    """
    given = {TRACEPARENT: traceparent, TRACESTATE: tracestate, REQUEST_ID: request_id}
    with continuing(sound(given)):
        yield


@contextmanager
def continuing(headers: Mapping[str, str]) -> Iterator[None]:
    """Let what is submitted in the block belong to the trace of a message."""
    token = _given.set(headers)
    try:
        yield
    finally:
        _given.reset(token)


def continue_trace(headers: Mapping[str, str]) -> None:
    """Let what is submitted from here on belong to the trace of the message in work."""
    _given.set(headers)


def carried() -> dict[str, str]:
    """What a message that is written now has to carry; empty when nobody traces."""
    found = _of_request() | dict(_given.get())
    span = _current_span()
    if span is None:
        return found
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    found.pop(TRACESTATE, None)
    TraceContextTextMapPropagator().inject(found)
    return found


def trace_id_of(headers: Mapping[str, str], task_id: str) -> str:
    """The id that the log shows: the trace's, else the request's, else the task's own."""
    match = _TRACEPARENT.fullmatch(headers.get(TRACEPARENT, ""))
    if match:
        return match.group(1)
    return headers.get(REQUEST_ID) or task_id.replace("-", "")


def current_trace_id() -> str | None:
    """The trace of OpenTelemetry's current span, if there is one."""
    span = _current_span()
    return None if span is None else f"{span.get_span_context().trace_id:032x}"


def sound(headers: Mapping[str, Any]) -> dict[str, str]:
    """The headers of a message that are well-formed."""
    shapes = {TRACEPARENT: _TRACEPARENT, TRACESTATE: _TRACESTATE, REQUEST_ID: _REQUEST_ID}
    return {
        name: value
        for name, shape in shapes.items()
        if isinstance(value := headers.get(name), str) and shape.fullmatch(value)
    }


def publishing(task: str, message_id: str, headers: dict[str, str]) -> AbstractContextManager[None]:
    """Round the publishing of a message, which ``headers`` belong to."""
    if _Process.spans is None:
        return nullcontext()
    return _Process.spans.publishing(task, message_id, headers)


def calling(name: str, **attributes: Any) -> AbstractContextManager[Note]:
    """Round a call of another service that no library records by itself.

    Args:
        name: of the span.
        attributes: of the span, by OpenTelemetry's names with _ for a dot.
    """
    if _Process.spans is None:
        return nullcontext(_leave_out)
    named = {one.replace("_", "."): value for one, value in attributes.items()}
    return _Process.spans.calling(name, named)


def _leave_out(name: str, value: Any) -> None:
    pass


def _of_request() -> dict[str, str]:
    from flask import has_request_context, request

    if not has_request_context():
        return {}
    return sound(
        {
            TRACEPARENT: request.headers.get("traceparent"),
            TRACESTATE: request.headers.get("tracestate"),
            REQUEST_ID: request.headers.get("X-Request-Id"),
        }
    )


def _current_span() -> Any:
    # Whoever has a span has loaded it.
    api = sys.modules.get("opentelemetry.trace")
    if api is None or not hasattr(api, "get_current_span"):
        return None
    span = api.get_current_span()
    return span if span.get_span_context().is_valid else None
