"""Spans to a receiver, beside the OpenTelemetry SDK's own way there, on the same spans.

``python -m benchmarks.traces [--traces 2500]``: the SDK's BatchSpanProcessor and OTLP
exporter (protobuf, gzip) send spans that were made before, from memory, and forget them
when the process dies. A worker with greenlets and a worker with two processes send as
many from rows: claimed under a lease, unpacked, encoded, sent, their ends written down.
"""

import argparse
import asyncio
import gzip
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import text
from sqlalchemy.orm import Session

from benchmarks.report import OURS, Figure, compared, rounds
from shared.app_factory import create_app
from shared.models import db
from shared.settings import Settings
from shared.submitting.dataset import ensure_tenant
from shared.submitting.sealing import SealingKeys
from shared.submitting.trace_configs import ConfigDraft, set_trace_config
from shared.submitting.trace_payload import checked_trace
from shared.submitting.traces import TraceRules, record_trace
from tests.fixtures.trace_deliveries import numbered
from worker.cli.database import upgrade_database
from worker.cli.stack.children import kill_group, spawn
from worker.cli.stack.postgres import EmbeddedPostgres
from worker.cli.stack.valkey import EmbeddedValkey
from worker.providers.trace_attributes import span_attributes
from worker.providers.trace_presets import PRESETS

POOLS = (("gevent", 20), ("prefork", 2))
SPANS = 4
PATIENCE_SECONDS = 600.0
#: Sent before the measurement: the SDK has been imported by then, too.
WARM_UP = 60
_DELIVERED = text("SELECT count(*) FROM trace_deliveries WHERE status = 'delivered'")
_SECONDS = text(
    "SELECT extract(epoch FROM max(ended_at) - min(handed_over_at)) FROM trace_deliveries"
)
_OK = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n"
    b"Connection: keep-alive\r\n\r\n"
)


class Sink(asyncio.Protocol):
    """Takes every request at once, and writes its body down for the count afterwards."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._buffer = bytearray()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while True:
            head, found, rest = bytes(self._buffer).partition(b"\r\n\r\n")
            if not found:
                return
            lines = head.lower().split(b"\r\n")
            (length,) = (int(one[15:]) for one in lines if one.startswith(b"content-length:"))
            if len(rest) < length:
                return
            (self._folder / uuid4().hex).write_bytes(rest[:length])
            self._buffer = bytearray(rest[length:])
            self._transport.write(_OK)


async def serve(port: int, folder: Path) -> None:
    """Serve for ever."""
    server = await asyncio.get_running_loop().create_server(
        lambda: Sink(folder), "127.0.0.1", port, backlog=1000
    )
    await server.serve_forever()


def received(folder: Path) -> int:
    """Distinct spans that arrived; the folder is empty afterwards."""
    ids: set[bytes] = set()
    for one in folder.iterdir():
        request = ExportTraceServiceRequest.FromString(gzip.decompress(one.read_bytes()))
        for whole in request.resource_spans:
            for scoped in whole.scope_spans:
                ids.update(span.span_id for span in scoped.spans)
        one.unlink()
    return len(ids)


def sdk_spans(traces: list[dict[str, Any]]) -> list[ReadableSpan]:
    """The same spans with the same attributes, as the SDK has them when they have ended."""
    kept = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource.create({"service.name": "app-1"}))
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = provider.get_tracer("rag-worker")
    for given in traces:
        trace = checked_trace(given)
        for span in trace.spans:
            made = tracer.start_span(
                span.name,
                start_time=span.start_ns,
                attributes={
                    name: value
                    for name, value in span_attributes(trace, span, PRESETS["otlp"].content).items()
                    if value is not None
                },
            )
            for event in span.events:
                made.add_event(event.name, dict(event.attributes), event.time_ns)
            made.end(span.end_ns)
    return list(kept.get_finished_spans())


def by_sdk(spans: list[ReadableSpan], url: str) -> float:
    """Spans per second by the SDK, with its defaults but a queue that drops nothing."""
    exporter = OTLPSpanExporter(endpoint=f"{url}/v1/traces", compression=Compression.Gzip)
    processor = BatchSpanProcessor(exporter, max_queue_size=len(spans) + 1)
    started = time.perf_counter()
    for span in spans:
        processor.on_end(span)
    processor.force_flush(int(PATIENCE_SECONDS * 1000))
    seconds = time.perf_counter() - started
    processor.shutdown()  # type: ignore[no-untyped-call]
    return len(spans) / seconds


@contextmanager
def system(folder: Path) -> Iterator[Settings]:
    """Servers and an application."""
    with (
        EmbeddedPostgres(folder / "postgres") as postgres,
        EmbeddedValkey(folder / "valkey") as valkey,
    ):
        os.environ |= {
            "SQLALCHEMY_DATABASE_URI": postgres.uri,
            "REDIS_URL": valkey.url,
            "CELERY_BROKER_URL": valkey.url,
            "STORAGE_URL": f"file://{folder}/storage",
            "RAG_WORKER_DATA_DIR": str(folder / "data"),
            "LOG_LEVEL": "WARNING",
            "SECRET_KEY": "a key of the benchmark",
            "TRACE_ALLOWED_NETWORKS": "127.0.0.0/8",
        }
        app = create_app()
        with app.app_context():
            upgrade_database()
            yield app.extensions["settings"]
            db.engine.dispose()


def record(traces: list[dict[str, Any]], url: str, settings: Settings) -> None:
    """Write the rows and their messages; workers see all of them at once."""
    rules = TraceRules.of(settings.tracing)
    with Session(db.engine) as session, session.begin():
        tenant_id = ensure_tenant(session, "bench")
        draft = ConfigDraft(provider="otlp", endpoint=url)
        set_trace_config(session, tenant_id, draft, keys=SealingKeys.of(settings.application))
        for trace in traces:
            record_trace(session, tenant_id, trace, rules=rules)


@contextmanager
def worker(pool: str, concurrency: int, folder: Path) -> Iterator[Path]:
    """One worker; gives its log."""
    command = [sys.executable, "-m", "celery", "-A", "worker.celery_app", "worker", "-P", pool]
    command += ["-c", str(concurrency), "-Q", "ops_trace", "-l", "WARNING"]
    command += ["-n", f"bench-{uuid4().hex[:6]}@test"]
    log = folder / f"{pool}.log"
    process = spawn(command, log=log, death_signal=signal.SIGKILL, env=dict(os.environ))
    try:
        yield log
    finally:
        kill_group(process)


def delivered(traces: int, log: Path) -> float:
    """Wait for the last one; spans per second from the first row taken to the last that ended."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    with db.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        while connection.scalar(_DELIVERED) != traces:
            if time.monotonic() > deadline:
                raise RuntimeError(log.read_text())
            time.sleep(0.2)
        seconds = float(connection.scalar(_SECONDS) or 0)
        connection.execute(text("DELETE FROM trace_deliveries"))
    return traces * SPANS / seconds


def figures(budget_seconds: float) -> Iterator[Figure]:
    """Spans per second of workers, against the SDK's own exporter."""
    runs: dict[str, list[float]] = {"OpenTelemetry SDK": []}
    runs |= {f"{OURS}, {pool} {concurrency}": [] for pool, concurrency in POOLS}
    traces = numbered(1000, spans=SPANS)
    with tempfile.TemporaryDirectory() as name:
        folder, arrived = Path(name), Path(name) / "arrived"
        arrived.mkdir()
        with sink(arrived) as url, system(folder) as settings:
            spans = sdk_spans(traces)
            for _ in rounds(budget_seconds, at_least=1):
                runs["OpenTelemetry SDK"].append(by_sdk(spans, url))
                received(arrived)
                for pool, concurrency in POOLS:
                    with worker(pool, concurrency, folder) as log:
                        record(numbered(WARM_UP, first=10**6), url, settings)
                        delivered(WARM_UP, log)
                        received(arrived)
                        record(traces, url, settings)
                        rate = delivered(len(traces), log)
                    if received(arrived) != len(spans):
                        raise RuntimeError("not every span arrived")
                    runs[f"{OURS}, {pool} {concurrency}"].append(rate)
    yield from compared("export of traces", runs, "spans/s", against="OpenTelemetry SDK")


def main(arguments: list[str] | None = None) -> int:
    """Print spans per second, and the workers' as parts of the SDK's."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--traces", type=int, default=2500)
    parser.add_argument("--serve", nargs=2, metavar=("PORT", "FOLDER"))
    options = parser.parse_args(arguments)
    if options.serve:
        asyncio.run(serve(int(options.serve[0]), Path(options.serve[1])))
        return 0
    traces = numbered(options.traces, spans=SPANS)
    total = options.traces * SPANS
    with tempfile.TemporaryDirectory() as name:
        folder, arrived = Path(name), Path(name) / "arrived"
        arrived.mkdir()
        with sink(arrived) as url:
            spans = sdk_spans(traces)
            sdk = by_sdk(spans, url)
            assert received(arrived) == total
            print(f"{'OpenTelemetry SDK':20} {sdk:8.0f} spans/s   1.00", flush=True)
            with system(folder) as settings:
                for pool, concurrency in POOLS:
                    with worker(pool, concurrency, folder) as log:
                        record(numbered(WARM_UP, first=10**6), url, settings)
                        delivered(WARM_UP, log)
                        received(arrived)
                        record(traces, url, settings)
                        rate = delivered(options.traces, log)
                    assert received(arrived) == total
                    what = f"worker, {pool} {concurrency}"
                    print(f"{what:20} {rate:8.0f} spans/s   {rate / sdk:.2f}", flush=True)
    return 0


@contextmanager
def sink(folder: Path) -> Iterator[str]:
    """A receiver in a process of its own."""
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "benchmarks.traces", "--serve", str(port), str(folder)]
    process = subprocess.Popen(command)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    sys.exit(main())
