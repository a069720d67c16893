"""One trace: a producer's span, the outbox, a worker's relay and run, SQL and HTTP."""

import os
import subprocess
import sys
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy.orm import Session

from tests.fixtures.embedding_server import KEY, EmbeddingServer, remote_dataset
from tests.fixtures.trace_deliveries import OpenTraces, numbered
from tests.fixtures.trace_receiver import ReceivedSpan, TraceReceiver, refusing, taken
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker

SECONDS = 300
PASSWORD = "M4rked-collector-key"
PRODUCER = """
import io, sys
from uuid import UUID
from opentelemetry import trace
from sqlalchemy.orm import Session
from shared.app_factory import create_app
from shared.models import Dataset, db
from shared.submitting.dataset import submit_documents
from shared.submitting.files import store_file
app = create_app()
with app.app_context(), Session(db.engine) as session:
    dataset = session.get_one(Dataset, UUID(sys.argv[1]))
    stored = store_file(app.extensions["storage"], dataset.tenant_id, "ada@example.com.txt",
                        io.BytesIO(b"The lamp turns. " * 50))
    with trace.get_tracer("producer").start_as_current_span("upload") as span:
        submit_documents(session, app.extensions["redis"], dataset.id, [("a.txt", stored)],
                         celery=app.extensions["celery"] if sys.argv[2] == "now" else None)
        session.commit()
print(f"{span.get_span_context().trace_id:032x}")
"""


def produce(dataset_id: UUID, when: str, **variables: str) -> str:
    """A producer's process, ended when it returns; the id of its trace."""
    done = subprocess.run(
        [sys.executable, "-c", PRODUCER, str(dataset_id), when],
        env={**os.environ, **variables, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


@pytest.fixture
def telemetry(
    trace_receiver: TraceReceiver,
    embedding_server: EmbeddingServer,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, str]:
    # Of the other processes alone: what is instrumented here stays so for the tests behind.
    monkeypatch.delenv("TELEMETRY_ENABLED", raising=False)
    return {
        "TELEMETRY_ENABLED": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": trace_receiver.url,
        "OTEL_EXPORTER_OTLP_HEADERS": f"x-api-key={PASSWORD}",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "EMBEDDING_BASE_URL": embedding_server.url,
        "EMBEDDING_API_KEY": KEY,
        "LOG_FORMAT": "json",
    }


@pytest.fixture
def dataset_id(session: Session) -> UUID:
    return remote_dataset(session)


def ancestors(span: ReceivedSpan, spans: dict[str, ReceivedSpan]) -> list[str]:
    names = []
    while span.parent_span_id:
        span = spans[span.parent_span_id]
        names.append(span.name)
    return names


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("pool", "when"), [("prefork", "now"), ("gevent", "later")])
def test_a_document_is_one_trace_from_its_upload_to_its_vectors(
    app: Flask,
    start_worker: StartWorker,
    trace_receiver: TraceReceiver,
    dataset_id: UUID,
    telemetry: dict[str, str],
    pool: str,
    when: str,
) -> None:
    trace_id = produce(dataset_id, when, **telemetry)
    worker = start_worker(pool, 2, **telemetry)

    def of_the_trace() -> dict[str, ReceivedSpan]:
        return {one.span_id: one for one in trace_receiver.spans if one.trace_id == trace_id}

    def is_whole() -> bool:
        return {"upload"} <= {one.name for one in of_the_trace().values()} and any(
            one.name.startswith("run/") for one in of_the_trace().values()
        )

    eventually(is_whole, SECONDS)
    assert worker.terminate() == 0
    spans = of_the_trace()
    # A second delivery of the message, which finds nothing to do, is of the same trace.
    run, *_ = [one for one in spans.values() if one.name.startswith("run/")]
    task = "worker.tasks.dataset.document_indexing_task"
    assert run.name == f"run/{task}"
    assert ancestors(run, spans) == [f"publish/{task}", "upload"]
    below = [one for one in spans.values() if f"run/{task}" in ancestors(one, spans)]
    sql = [one for one in below if one.scope == "rag_worker" and "db.statement" in one.attributes]
    statements = "\n".join(one.attributes["db.statement"] for one in sql)
    assert "INSERT INTO document_segments" in statements, statements
    http = [one for one in below if one.scope.endswith("httpx") and one.name == "POST"]
    assert http
    assert http[0].attributes["http.url"].endswith("/embeddings")
    # Nothing polls into traces of its own.
    roots = {one.name for one in trace_receiver.spans if not one.parent_span_id}
    assert roots <= {"upload"} | {name for name in roots if name.startswith(("publish/", "run/"))}
    assert all(request.headers.get("x-api-key") == PASSWORD for request in trace_receiver.asked)
    for span in trace_receiver.spans:
        shown = repr((span.name, span.attributes, span.events, span.status_message))
        assert KEY not in shown
        assert PASSWORD not in shown
        assert "ada@example.com" not in shown
        assert "The lamp" not in shown
    lines = [line for line in worker.output().splitlines() if f'"task": "{task}"' in line]
    assert lines
    assert all(f'"trace_id": "{trace_id}"' in line for line in lines if '"task_id"' in line)


def test_a_run_that_is_retried_stays_in_its_trace_and_what_fails_says_so(
    app: Flask,
    session: Session,
    start_worker: StartWorker,
    trace_receiver: TraceReceiver,
    telemetry: dict[str, str],
) -> None:
    from shared.queueing import outbox
    from shared.queueing.trace_context import carrying

    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    with carrying(traceparent=f"00-{trace_id}-00f067aa0ba902b7-01"):
        outbox.write(session, "logging.transient", ["twice"])
        outbox.write(session, "logging.permanent", ["ada@example.com token=abcdef123456"])
    session.commit()
    worker = start_worker("threads", 2, "-I", "tests.fixtures.logging_tasks", **telemetry)

    def runs(name: str) -> list[ReceivedSpan]:
        return [one for one in trace_receiver.spans if one.name == f"run/logging.{name}"]

    eventually(lambda: len(runs("transient")) == 2 and runs("permanent"), SECONDS)
    assert worker.terminate() == 0
    assert {one.trace_id for one in runs("transient") + runs("permanent")} == {trace_id}
    published = {
        one.span_id: one for one in trace_receiver.spans if one.name == "publish/logging.transient"
    }
    assert {one.parent_span_id for one in published.values()} == {"00f067aa0ba902b7"}
    assert {one.parent_span_id for one in runs("transient")} == set(published)
    (failed,) = runs("permanent")
    assert failed.status == 2
    assert failed.status_message == "UnreadableFile: *** token=*** is broken"
    below = [one for one in trace_receiver.spans if one.parent_span_id == failed.span_id]
    (stored,) = [one for one in below if one.name == "store_result"]
    assert stored.attributes["db.system"] == "postgresql"


def test_exported_traces_show_in_the_workers_own_without_a_key(
    open_traces: OpenTraces,
    start_worker: StartWorker,
    trace_receiver: TraceReceiver,
    telemetry: dict[str, str],
) -> None:
    traces = open_traces(trace_receiver, **telemetry | {"TELEMETRY_ENABLED": "false"})
    query = "api_key=M4rked-project-key"
    config = traces.config(url=f"{trace_receiver.url}/project?{query}")
    steps = [taken, refusing(401, "no such project")]
    trace_receiver.always = lambda asked: (
        steps.pop() if asked.path.startswith("/project") else taken
    )(asked)
    worker = start_worker("threads", 1, **telemetry)
    for number in range(2):
        traces.record(config, *numbered(1, first=number), announce=True)
        eventually(lambda n=number: len(exported(trace_receiver)) > n, SECONDS)  # type: ignore[misc]
    assert worker.terminate() == 0

    spans = {one.span_id: one for one in trace_receiver.spans}
    refused, accepted = exported(trace_receiver)
    for span, status in ((refused, 401), (accepted, 200)):
        assert spans[span.parent_span_id].name.startswith("run/worker.tasks.ops_trace.")
        assert span.attributes["http.url"] == f"{trace_receiver.url}/project/v1/traces"
        assert span.attributes["http.status_code"] == status
    assert (refused.status, accepted.status) == (2, 0)
    assert "no such project" in refused.status_message
    assert query not in repr((refused, accepted))


def exported(receiver: TraceReceiver) -> list[ReceivedSpan]:
    found = [one for one in receiver.spans if one.name == "export_traces"]
    return sorted(found, key=lambda one: one.start_ns)


MISSING: list[tuple[dict[str, Any], str, str]] = [
    ({"TELEMETRY_ENABLED": "true"}, "opentelemetry.sdk", "rag-worker[telemetry]"),
    ({"SENTRY_DSN": "https://k@localhost/1"}, "sentry_sdk", "rag-worker[sentry]"),
]
WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1] or name.startswith(sys.argv[1] + "."):
            raise ModuleNotFoundError(f"No module named {name!r}")
sys.meta_path.insert(0, Missing())
from shared.app_factory import create_app
from shared.errors import ConfigurationError
try:
    create_app()
except ConfigurationError as error:
    print(error)
else:
    # The SDK itself redis-py loads where it finds it.
    print(sorted({"opentelemetry.instrumentation", "sentry_sdk"} & set(sys.modules)))
"""


@pytest.mark.parametrize(("variables", "module", "extra"), MISSING)
def test_without_its_extra_it_says_which_and_off_it_costs_no_import(
    environment: dict[str, str], variables: dict[str, str], module: str, extra: str
) -> None:
    def started(**switched_on: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT, module],
            env={**os.environ, **switched_on, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True, text=True, timeout=300, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    assert extra in started(**variables)
    assert started() == "[]"
