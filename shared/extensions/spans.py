"""The spans of this project; loaded only where ``TELEMETRY_ENABLED`` is on.

The provider is the process's: one that the application has set already is used as it is.
A forked process records on: the SDK starts its thread anew there.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from celery import signals
from flask import Flask
from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor, HTTPXClientInstrumentor
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.instrumentation.sqlalchemy.engine import EngineTracer
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider, sampling
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.extensions.span_export import OnlyWork, Redacted
from shared.models import db
from shared.queueing import trace_context
from shared.settings import Settings
from shared.settings.telemetry import TelemetrySettings

_SCOPE = "rag_worker"
#: What is left at the end of a process is sent within so long, or lost.
_LAST_MILLISECONDS = 5_000
_PROBES = "livez,readyz,metrics"
_propagator = TraceContextTextMapPropagator()


class _Process:
    is_instrumented = False


class TaskRuns(CeleryInstrumentor):
    """Runs alone: of a task that its publisher knows by name only it never ends the span.

    Publishing is ``OwnSpans``' concern, for the outbox publishes for others.
    """

    def _instrument(self, **kwargs: Any) -> None:
        super()._instrument(**kwargs)  # type: ignore[no-untyped-call]
        signals.before_task_publish.disconnect(self._trace_before_publish)
        signals.after_task_publish.disconnect(self._trace_after_publish)


class OwnSpans:
    """Spans that no instrumentation makes: of messages in their producers' traces, and of calls.

    Args:
        tracer: records them.
    """

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer

    @contextmanager
    def publishing(self, task: str, message_id: str, headers: dict[str, str]) -> Iterator[None]:
        """See ``trace_context.Spans``."""
        with self._tracer.start_as_current_span(
            f"publish/{task}",
            context=_propagator.extract(headers),
            kind=SpanKind.PRODUCER,
            attributes={"messaging.system": "celery", "messaging.message.id": message_id},
        ):
            headers.pop(trace_context.TRACESTATE, None)
            _propagator.inject(headers)
            yield

    @contextmanager
    def calling(self, name: str, attributes: Mapping[str, Any]) -> Iterator[trace_context.Note]:
        """See ``trace_context.Spans``."""
        with self._tracer.start_as_current_span(
            name, kind=SpanKind.CLIENT, attributes=attributes
        ) as span:
            yield span.set_attribute


def record(app: Flask) -> None:
    """Record what the application does."""
    settings: Settings = app.extensions["settings"]
    provider = _provider(settings.telemetry)
    tracer = trace.get_tracer(_SCOPE, tracer_provider=provider)
    usage = metrics.get_meter(_SCOPE).create_up_down_counter("db.client.connections.usage")
    with app.app_context():
        # The official listeners on this engine; the instrumentor would patch every other one.
        EngineTracer(tracer, db.engine, usage)  # type: ignore[no-untyped-call]
    FlaskInstrumentor.instrument_app(  # type: ignore[no-untyped-call]
        app, tracer_provider=provider, excluded_urls=_PROBES
    )
    if _Process.is_instrumented:
        return
    _Process.is_instrumented = True
    for instrumentor in (
        TaskRuns(),  # type: ignore[no-untyped-call]
        RedisInstrumentor(),
        HTTPXClientInstrumentor(),
        HTTPX2ClientInstrumentor(),
    ):
        if not instrumentor.is_instrumented_by_opentelemetry:
            instrumentor.instrument(tracer_provider=provider)
    trace_context.use_spans(OwnSpans(tracer))
    signals.task_failure.connect(_mark_failure)
    for ends in (signals.worker_process_shutdown, signals.worker_shutdown):
        ends.connect(_flush, weak=False)


def _provider(settings: TelemetrySettings) -> Any:
    set_before = trace.get_tracer_provider()
    if not isinstance(set_before, trace.ProxyTracerProvider):
        return set_before
    made = TracerProvider(
        resource=Resource.create({"service.name": settings.otel_service_name}),
        sampler=OnlyWork(_sampler(settings)),
    )
    exporter = OTLPSpanExporter(
        f"{settings.otel_exporter_otlp_endpoint}/v1/traces",
        headers=settings.collector_headers,
        timeout=settings.otel_exporter_otlp_timeout,
        compression=Compression(settings.otel_exporter_otlp_compression),
    )
    made.add_span_processor(BatchSpanProcessor(Redacted(exporter)))
    trace.set_tracer_provider(made)
    return made


def _sampler(settings: TelemetrySettings) -> sampling.Sampler:
    name = settings.otel_traces_sampler
    base: sampling.Sampler = {
        "on": sampling.ALWAYS_ON,
        "off": sampling.ALWAYS_OFF,
        "traceidratio": sampling.TraceIdRatioBased(settings.otel_traces_sampler_arg),
    }[name.removeprefix("parentbased_").removeprefix("always_")]
    return sampling.ParentBased(base) if name.startswith("parentbased_") else base


def _mark_failure(sender: Any, exception: BaseException, **_: Any) -> None:
    """What ends for good is an error too, though Celery's instrumentation passes it over."""
    span = trace.get_current_span()
    if isinstance(exception, tuple(getattr(sender, "throws", ()))) and span.is_recording():
        span.record_exception(exception)
        span.set_status(StatusCode.ERROR, f"{type(exception).__name__}: {exception}")


def _flush(**_: Any) -> None:
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.force_flush(_LAST_MILLISECONDS)
