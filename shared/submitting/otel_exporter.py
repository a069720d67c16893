"""OpenTelemetry's spans into rag-worker's database: one line in an instrumented application.

::

    provider.add_span_processor(BatchSpanProcessor(RagWorkerSpanExporter(tenant_id=…)))

The application's threads only fill the processor's bounded queue. Its own thread writes
here: to the database, and nowhere else. A worker sends them on.
"""

import logging
import os
import threading
from collections import deque
from collections.abc import Iterable, Sequence

from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from shared.errors import InvalidRequest, NotFound, TraceTooLarge
from shared.queueing.engine import open_engine
from shared.queueing.outage import SERVER_LOST
from shared.settings import load_settings
from shared.submitting.ids import AnyId
from shared.submitting.otel_spans import OtelSpan
from shared.submitting.otel_traces import Draft, drafts_of
from shared.submitting.traces import TraceRules, record_trace

try:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
except ImportError as missing:  # pragma: no cover - the tests have it
    raise ImportError(
        "spans of OpenTelemetry need its SDK: pip install rag-worker[opentelemetry]"
    ) from missing

logger = logging.getLogger(__name__)

#: Spans that wait in memory while the database is away; older ones go first.
_MOST_KEPT = 10_000
_CONNECT_SECONDS = 5
_LEFT_OUT = "rag_worker.left_out"
_REFUSED = {"action": "traces.refused"}
_LOST = {"action": "traces.lost"}


class RagWorkerSpanExporter(SpanExporter):
    """Writes spans down for the workers; safe in any thread, and after a fork.

    Args:
        tenant_id: whose spans; of those that say it themselves (attribute
            ``rag_worker.tenant_id``, of the span or its resource) that one's.
        app_id: likewise, ``rag_worker.app_id``.
        sessions: makes sessions on rag-worker's database; by the settings, when unset.
        rules: likewise.
    """

    def __init__(
        self,
        tenant_id: "AnyId | None" = None,
        app_id: str | None = None,
        *,
        sessions: "sessionmaker[Session] | None" = None,
        rules: TraceRules | None = None,
    ) -> None:
        self._tenant_id = str(tenant_id) if tenant_id is not None else None
        self._app_id = app_id
        self._given = sessions
        self._rules = rules
        self._opened: tuple[int, Engine, sessionmaker[Session]] | None = None
        self._kept: deque[OtelSpan] = deque(maxlen=_MOST_KEPT)
        self._lock = threading.Lock()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write a batch, and what an earlier call could not; raises nothing."""
        with self._lock:
            waiting: list[OtelSpan] = [*self._kept, *spans]
            self._kept.clear()
            try:
                dropped = self._write(waiting)
            except SERVER_LOST as error:
                self._keep(waiting, error)
                return SpanExportResult.FAILURE
            except Exception:
                # Whatever it is, the application must not feel it.
                logger.exception("%s spans are lost", len(waiting), extra=_LOST)
                return SpanExportResult.FAILURE
        return SpanExportResult.FAILURE if dropped else SpanExportResult.SUCCESS

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 - OpenTelemetry's
        """Try once more to write what is kept; whether nothing is left."""
        if self._kept:
            self.export(())
        return not self._kept

    def shutdown(self) -> None:
        """Write what is left, and close the connections that were opened here."""
        self.force_flush()
        if self._opened is not None:
            self._opened[1].dispose()
            self._opened = None

    def _write(self, spans: Iterable[OtelSpan]) -> int:
        self._rules = rules = self._rules or TraceRules.of(load_settings().tracing)
        drafts = drafts_of(spans, self._tenant_id, self._app_id)
        try:
            with self._sessions().begin() as session:
                return sum(_record(session, draft, rules) for draft in drafts)
        except SERVER_LOST:
            raise
        except Exception:  # noqa: BLE001 - one that cannot be written costs no other its place
            return sum(self._write_alone(draft, rules) for draft in drafts)

    def _write_alone(self, draft: Draft, rules: TraceRules) -> int:
        try:
            with self._sessions().begin() as session:
                return _record(session, draft, rules)
        except SERVER_LOST:
            raise
        except Exception:
            lost = len(draft.trace["spans"])
            logger.exception("%s spans are lost", lost, extra=_LOST)
            return lost

    def _keep(self, spans: Sequence[OtelSpan], error: Exception) -> None:
        self._kept.extend(spans)
        logger.warning(
            "the database does not take spans, %s wait and %s are lost: %s",
            len(self._kept),
            len(spans) - len(self._kept),
            type(error).__name__,
            extra={"action": "traces.kept"},
        )

    def _sessions(self) -> "sessionmaker[Session]":
        if self._given is not None:
            return self._given
        if self._opened is None or self._opened[0] != os.getpid():
            if self._opened is not None:
                # After a fork the parent's connections stay the parent's.
                self._opened[1].dispose(close=False)
            database = load_settings().database
            arguments = database.engine_options["connect_args"]
            engine = open_engine(
                database,
                pool_size=1,
                max_overflow=1,
                pool_pre_ping=True,
                connect_args=arguments | {"connect_timeout": _CONNECT_SECONDS},
            )
            self._opened = (os.getpid(), engine, sessionmaker(engine))
        return self._opened[2]


def _record(session: Session, draft: Draft, rules: TraceRules) -> int:
    """Record a draft, in several parts if it is too large; returns how many spans were not."""
    spans = draft.trace["spans"]
    if draft.tenant_id is None:
        logger.error(
            "spans of no tenant: say tenant_id, or set the attribute rag_worker.tenant_id",
            extra=_REFUSED,
        )
        return len(spans)
    try:
        # Whatever it refuses it refuses before it writes: no savepoint is needed.
        record_trace(session, draft.tenant_id, draft.trace, rules=rules)
    except NotFound as error:
        logger.error("%s spans are not recorded: %s", len(spans), error, extra=_REFUSED)  # noqa: TRY400 - its text is all there is to say
        return len(spans)
    except TraceTooLarge as error:
        if len(spans) == 1:
            return _record_without_content(session, draft, rules, error)
    except InvalidRequest as error:
        if len(spans) == 1:
            logger.error("a span is not recorded: %s", error, extra=_REFUSED)  # noqa: TRY400 - its text is all there is to say
            return 1
    else:
        return 0
    half = len(spans) // 2
    return sum(
        _record(
            session,
            Draft(draft.tenant_id, {**draft.trace, "spans": some, "continues": True}),
            rules,
        )
        for some in (spans[:half], spans[half:])
    )


def _record_without_content(
    session: Session, draft: Draft, rules: TraceRules, error: TraceTooLarge
) -> int:
    (span,) = draft.trace["spans"]
    if _LEFT_OUT in span["attributes"]:
        logger.error("a span is not recorded: %s", error, extra=_REFUSED)
        return 1
    bare = {
        name: value
        for name, value in span.items()
        if name not in {"input", "output", "documents", "events"}
    }
    bare["attributes"] = {_LEFT_OUT: str(error)}
    return _record(session, Draft(draft.tenant_id, {**draft.trace, "spans": [bare]}), rules)
