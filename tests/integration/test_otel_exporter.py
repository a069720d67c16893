"""An application that is instrumented already writes its spans here by one line."""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker

from shared.submitting.otel_exporter import RagWorkerSpanExporter
from shared.submitting.trace_schema import Span, Trace
from shared.submitting.traces import TraceRules
from tests.fixtures.traced import Traced

Provider = Any


class Application:
    """A stranger's application; what it ends is written when it flushes."""

    def __init__(self, exporter: RagWorkerSpanExporter, **resource: Any) -> None:
        self.provider = TracerProvider(
            resource=Resource(
                {"service.version": "1.2", "deployment.environment": "prod"} | resource
            )
        )
        self.processor = BatchSpanProcessor(exporter, schedule_delay_millis=3_600_000)
        self.provider.add_span_processor(self.processor)
        self.tracer = self.provider.get_tracer("app")

    def flush(self) -> None:
        assert self.processor.force_flush(30_000)


@pytest.fixture
def application(traced: Traced) -> Iterator[Application]:
    traced.configure()
    made = Application(RagWorkerSpanExporter(traced.tenant_id, "app-1"))
    yield made
    made.provider.shutdown()


def only(traced: Traced) -> Trace:
    return traced.spans(traced.row())


def by_name(trace: Trace) -> dict[str, Span]:
    return {one.name: one for one in trace.spans}


def test_one_line_is_enough_and_gen_ai_attributes_become_fields(
    traced: Traced, application: Application
) -> None:
    messages = [{"role": "user", "parts": [{"type": "text", "content": "When?"}]}]
    with application.tracer.start_as_current_span("chat", attributes={"session.id": "s-1"}) as root:
        with application.tracer.start_as_current_span("chat gpt-4o") as llm:
            llm.set_attributes(
                {
                    "gen_ai.operation.name": "chat",
                    "gen_ai.provider.name": "openai",
                    "gen_ai.request.model": "gpt-4o",
                    "gen_ai.response.model": "gpt-4o-2026",
                    "gen_ai.request.temperature": 0.5,
                    "gen_ai.usage.input_tokens": 12,
                    "gen_ai.usage.output_tokens": 3,
                    "gen_ai.usage.cache_read.input_tokens": 10,
                    "gen_ai.input.messages": json.dumps(messages),
                    "gen_ai.output.messages": '[{"role": "assistant", "parts": []}]',
                    "gen_ai.response.time_to_first_chunk": 0.25,
                    "user.id": "ada",
                    "team": "tides",
                }
            )
            llm.add_event("first token", {"n": 1})
        root.set_status(Status(StatusCode.ERROR, "late"))
    application.flush()

    trace = only(traced)
    row = traced.row()
    assert row.trace_id == f"{root.get_span_context().trace_id:032x}"
    assert (row.status, row.name, row.kind, row.due_at) == ("waiting", "chat", "workflow", None)
    assert (trace.app_id, trace.session_id, trace.user_id) == ("app-1", "s-1", "ada")
    assert (trace.release, trace.environment) == ("1.2", "prod")
    chat, answer = trace.spans
    assert (chat.status, chat.status_message, chat.parent_span_id) == ("error", "late", None)
    assert (answer.kind, answer.parent_span_id) == ("llm", chat.span_id)
    assert answer.model is not None
    assert answer.model.model_dump() == {
        "provider": "openai",
        "request_model": "gpt-4o",
        "response_model": "gpt-4o-2026",
        "parameters": {"temperature": 0.5},
    }
    assert answer.usage is not None
    assert (answer.usage.total, answer.usage.cached_input_tokens) == (15, 10)
    assert answer.input == messages
    assert answer.output == [{"role": "assistant", "parts": []}]
    assert answer.time_to_first_token_ns == 250_000_000
    assert answer.attributes == {"team": "tides"}
    assert [(one.name, one.attributes) for one in answer.events] == [("first token", {"n": 1})]


def test_openinference_and_the_older_names_are_read_too(
    traced: Traced, application: Application
) -> None:
    spans: dict[str, dict[str, Any]] = {
        "openinference": {
            "openinference.span.kind": "LLM",
            "llm.model_name": "claude",
            "llm.provider": "anthropic",
            "llm.invocation_parameters": '{"max_tokens": 9}',
            "llm.token_count.prompt": 7,
            "llm.token_count.completion": 2,
            "llm.token_count.total": 9,
            "llm.cost.total": 0.5,
            "llm.input_messages.0.message.role": "system",
            "llm.input_messages.0.message.content": "Be short.",
            "llm.input_messages.10.message.role": "user",
            "llm.input_messages.2.message.role": "tool",
            "llm.output_messages.0.message.tool_calls.0.tool_call.function.name": "tide",
            "input.value": "repeats it",
            "input.mime_type": "text/plain",
            "metadata": '{"plan": "free"}',
            "tag.tags": ["a", "b"],
        },
        "older": {
            "gen_ai.system": "openai",
            "gen_ai.prompt.0.role": "user",
            "gen_ai.prompt.0.content": "Hi",
            "gen_ai.completion.0.content": "Ho",
            "gen_ai.usage.prompt_tokens": 1,
            "traceloop.span.kind": "task",
        },
        "retrieve": {
            "openinference.span.kind": "RETRIEVER",
            "input.value": '{"query": "tides"}',
            "retrieval.documents.0.document.id": "d-0",
            "retrieval.documents.0.document.content": "High tide",
            "retrieval.documents.0.document.score": 0.5,
            "retrieval.documents.1.document.metadata": '{"page": 1}',
        },
        "tool": {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.call.arguments": "[1]"},
        "odd": {
            "x": (1, 2),
            "nan": float("nan"),
            "gen_ai.usage.input_tokens": -1,
            "bytes": b"\xff",
        },
    }
    with application.tracer.start_as_current_span("root"):
        for name, attributes in spans.items():
            with application.tracer.start_as_current_span(name, attributes=attributes) as span:
                if name == "older":
                    span.add_event("gen_ai.user.message", {"content": "as an event"})
    application.flush()

    trace = only(traced)
    found = by_name(trace)
    assert (trace.tags, trace.metadata) == (("a", "b"), {"plan": "free"})
    llm = found["openinference"]
    assert llm.model is not None
    assert (llm.model.request_model, llm.model.parameters) == ("claude", {"max_tokens": 9})
    assert llm.usage is not None
    assert llm.cost is not None
    assert (llm.usage.total_tokens, llm.cost.total) == (9, 0.5)
    assert llm.input == [
        {"role": "system", "content": "Be short."},
        {"role": "tool"},
        {"role": "user"},
    ]
    assert llm.output == [{"tool_calls": [{"function": {"name": "tide"}}]}]
    assert llm.attributes == {}
    assert found["older"].input == [{"role": "user", "content": "Hi"}]
    assert found["older"].output == [{"content": "Ho"}]
    assert found["older"].events == ()
    first, second = found["retrieve"].documents
    assert (first.id, first.content, first.score) == ("d-0", "High tide", 0.5)
    assert second.metadata == {"page": 1}
    assert found["retrieve"].input == {"query": "tides"}
    assert (found["tool"].kind, found["tool"].input) == ("tool", [1])
    odd = found["odd"]
    assert odd.usage is None
    assert (odd.attributes["x"], odd.attributes["nan"]) == ([1, 2], "nan")


def test_children_wait_for_their_root_and_late_ones_follow(
    traced: Traced, application: Application
) -> None:
    root = application.tracer.start_span("root")
    inside = set_span_in_context(root)
    application.tracer.start_span("first", context=inside).end()
    late = application.tracer.start_span("late", context=inside)
    application.flush()
    row = traced.row()
    assert (row.status, row.span_count) == ("waiting", 1)
    assert row.due_at is not None

    root.end()
    application.flush()
    row = traced.row()
    assert (row.span_count, row.name, row.due_at) == (2, "root", None)
    traced.write("UPDATE trace_deliveries SET status = 'delivered'")
    late.end()
    application.flush()
    first, second = traced.rows()
    assert (first.part, second.part) == (0, 1)
    assert second.trace_id == first.trace_id
    assert traced.spans(second).spans[0].parent_span_id == traced.spans(first).spans[0].span_id

    elsewhere = SpanContext(0xABC, 0xDEF, is_remote=True, trace_flags=TraceFlags(1))
    called = set_span_in_context(NonRecordingSpan(elsewhere))
    application.tracer.start_span("called", context=called).end()
    application.flush()
    remote = traced.row(f"{0xABC:032x}")
    assert remote.due_at is None, "its root is another process's: nothing to wait for"
    assert traced.spans(remote).spans[0].parent_span_id == f"{0xDEF:016x}"


def test_the_tenant_may_stand_in_the_spans(traced: Traced) -> None:
    tenant = str(traced.tenant_id)
    made = Application(RagWorkerSpanExporter(), **{"rag_worker.app_id": "of the resource"})
    with made.tracer.start_as_current_span("whose?"):
        pass
    with made.tracer.start_as_current_span("ours", attributes={"rag_worker.tenant_id": tenant}):
        pass
    with made.tracer.start_as_current_span("no such", attributes={"rag_worker.tenant_id": "x"}):
        pass
    made.processor.force_flush()
    made.provider.shutdown()

    row = traced.row()
    assert (row.name, row.app_id, row.status) == ("ours", "of the resource", "disabled")
    assert traced.spans(row).spans[0].attributes == {}


def test_what_is_too_large_goes_in_parts_and_a_large_span_without_its_content(
    traced: Traced, caplog: pytest.LogCaptureFixture
) -> None:
    traced.configure()
    rules = TraceRules(max_bytes=4000, gather_seconds=0)
    made = Application(RagWorkerSpanExporter(traced.tenant_id, rules=rules))
    with made.tracer.start_as_current_span("root"):
        for number in range(8):
            with made.tracer.start_as_current_span(f"{number}", attributes={"x": "y" * 1000}):
                pass
        with made.tracer.start_as_current_span("large", attributes={"x": "y" * 9000}):
            pass
    made.flush()

    rows = traced.rows()
    spans = {one.name: one for row in rows for one in traced.spans(row).spans}
    assert len(rows) > 1
    assert {row.part for row in rows} == set(range(len(rows)))
    assert set(spans) == {"root", "large", *map(str, range(8))}
    assert "TRACE_MAX_BYTES" in str(spans["large"].attributes["rag_worker.left_out"])
    assert caplog.text == ""
    made.provider.shutdown()


def test_spans_wait_while_the_database_is_away_and_nothing_is_felt(traced: Traced) -> None:
    traced.configure()
    nobody = create_engine("postgresql+psycopg2://u:p@127.0.0.1:1/none")
    exporter = RagWorkerSpanExporter(traced.tenant_id, sessions=sessionmaker(nobody))
    made = Application(exporter)
    with made.tracer.start_as_current_span("kept"):
        pass
    made.processor.force_flush()
    assert traced.rows() == []
    assert not exporter.force_flush()

    exporter._given = None
    assert exporter.force_flush()
    assert traced.row().name == "kept"
    assert exporter.export(()) is SpanExportResult.SUCCESS
    made.provider.shutdown()


def test_one_trace_that_cannot_be_written_costs_no_other_its_place(
    traced: Traced, application: Application, caplog: pytest.LogCaptureFixture
) -> None:
    traced.write("ALTER TABLE trace_deliveries ADD CONSTRAINT odd CHECK (name <> 'odd')")
    for name in ("before", "odd", "after"):
        with application.tracer.start_as_current_span(name):
            pass
    application.flush()
    assert sorted(row.name for row in traced.rows()) == ["after", "before"]
    assert "1 spans are lost" in caplog.text
    with application.tracer.start_as_current_span("later"):
        pass
    application.flush()
    assert len(traced.rows()) == 3


def test_a_forked_process_opens_its_own_connection(
    traced: Traced, application: Application
) -> None:
    with application.tracer.start_as_current_span("parent"):
        pass
    application.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with application.tracer.start_as_current_span("child"):
                pass
            code = 0 if application.processor.force_flush() else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with application.tracer.start_as_current_span("parent again"):
        pass
    application.flush()
    assert [row.name for row in traced.rows()] == ["parent", "child", "parent again"]
