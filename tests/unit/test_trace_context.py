"""Whose trace a message is of: what is read, what is carried, what is left out."""

from typing import Any

import pytest
from celery import Celery
from flask import Flask
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

from shared.queueing import publishing, trace_context
from shared.queueing.trace_context import carried, carrying, trace_id_of

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"


def test_nobody_traces_nothing_is_carried() -> None:
    assert carried() == {}
    assert trace_id_of({}, "1b4e28ba-2fa1-11d2-883f-0016d3cca427") == (
        "1b4e28ba2fa111d2883f0016d3cca427"
    )


def test_a_request_of_flask_gives_its_headers() -> None:
    headers = {"traceparent": TRACEPARENT, "tracestate": "a=1", "X-Request-Id": "req-7"}
    with Flask("x").test_request_context(headers=headers):
        found = carried()
    assert found == {"traceparent": TRACEPARENT, "tracestate": "a=1", "request_id": "req-7"}
    assert trace_id_of(found, "x") == TRACE_ID
    with Flask("x").test_request_context(headers={"X-Request-Id": "req-7"}):
        assert trace_id_of(carried(), "x") == "req-7"


@pytest.mark.parametrize(
    "headers",
    [
        {"traceparent": "00-zz-yy-01"},
        {"traceparent": f"00-{'0' * 32}-00f067aa0ba902b7-01"},
        {"traceparent": f"ff-{TRACE_ID}-00f067aa0ba902b7-01"},
        {"X-Request-Id": "a b"},
        {"X-Request-Id": "x" * 129},
        {"X-Request-Id": "größe"},
        {"X-Request-Id": ""},
    ],
)
def test_what_is_malformed_is_left_out(headers: dict[str, str]) -> None:
    with Flask("x").test_request_context(headers=headers):
        assert carried() == {}
    assert trace_context.sound({"request_id": "line\nbreak", "traceparent": 7}) == {}


def test_a_span_goes_before_what_was_said() -> None:
    context = SpanContext(int(TRACE_ID, 16), 7, is_remote=False, trace_flags=TraceFlags(1))
    with (
        carrying(traceparent=f"00-{'a' * 32}-{'b' * 16}-00", request_id="req-7"),
        use_span(NonRecordingSpan(context)),
    ):
        assert trace.get_current_span().get_span_context() == context
        found = carried()
    assert found == {"traceparent": f"00-{TRACE_ID}-{7:016x}-01", "request_id": "req-7"}


def test_a_plain_delay_carries_it_too() -> None:
    assert publishing  # what a producer has loaded
    celery = Celery(broker="memory://", set_as_current=False)
    with carrying(traceparent=TRACEPARENT), celery.connection_for_write() as connection:
        celery.send_task("any.task", connection=connection)
        message: Any = connection.SimpleQueue("celery").get(timeout=60)
    assert message.headers["traceparent"] == TRACEPARENT
