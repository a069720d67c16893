"""Traces are recorded: a row for each provider and the message about it, in one transaction.

The producer waits for nothing but its own database: what is wrong with a trace it is
told at once, and a provider that is slow or away is a worker's affair.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from uuid import UUID, uuid4

from celery import Celery
from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from shared.contract import PROCESS_TRACE
from shared.errors import TraceTooLarge
from shared.models import TraceConfig, TraceDelivery, TraceStatus
from shared.queueing import outbox
from shared.settings.tracing import TracingSettings
from shared.submitting.ids import AnyId, checked_id
from shared.submitting.trace_configs import configs_for
from shared.submitting.trace_merging import merged
from shared.submitting.trace_payload import checked_trace, packed, unpacked
from shared.submitting.trace_redaction import Redaction, normal_keys
from shared.submitting.trace_schema import Trace

NO_CONFIG = "no provider is configured for it: `rag-worker traces config set`, then `traces replay`"
# The part that was recorded last, if nobody has begun to send it.
_OPEN_PART = text("""
    SELECT id, payload, due_at FROM trace_deliveries
    WHERE trace_id = :trace_id AND config_id = :config_id AND config_version = :version
      AND status = 'waiting' AND lease_expires_at IS NULL AND payload IS NOT NULL
    ORDER BY part DESC LIMIT 1
    FOR UPDATE SKIP LOCKED
""")
_APPENDED = text("""
    UPDATE trace_deliveries
    SET payload = :payload, payload_bytes = :payload_bytes, span_count = :span_count,
        name = :name, due_at = CASE WHEN :is_due THEN NULL ELSE due_at END,
        message_id = coalesce(CAST(:message_id AS uuid), message_id)
    WHERE id = :id
""")


@dataclass(frozen=True, slots=True)
class TraceRules:
    """What every trace is accepted by.

    Attributes:
        max_bytes: as JSON, after masking.
        gather_seconds: how long spans without their parents wait for them.
    """

    max_bytes: int = 8 * 1024**2
    max_spans: int = 2000
    gather_seconds: float = 10.0
    redaction: Redaction = field(default_factory=Redaction)

    @classmethod
    def of(cls, tracing: TracingSettings) -> "TraceRules":
        """Those that the settings say."""
        return _rules_of(tracing)


@lru_cache(maxsize=8)
def _rules_of(tracing: TracingSettings) -> TraceRules:
    return TraceRules(
        max_bytes=tracing.trace_max_bytes,
        max_spans=tracing.trace_max_spans,
        gather_seconds=tracing.trace_gather_seconds,
        redaction=Redaction(
            keys=normal_keys(tracing.redacted_keys),
            patterns=tuple(map(re.compile, tracing.redacted_patterns)),
            characters=tracing.trace_value_characters,
        ),
    )


def record_trace(
    session: Session,
    tenant_id: AnyId,
    trace: "Trace | Mapping[str, Any]",
    *,
    rules: TraceRules,
    celery: Celery | None = None,
) -> str:
    """Record a trace, in the caller's transaction: once committed it will be sent.

    Recorded twice, or in parts, it has the same ids: spans join the part that still
    waits, and are sent as a further part of the same trace afterwards.

    Args:
        session: any SQLAlchemy session on rag-worker's database; commit it as usual.
        tenant_id: whose trace; its ``app_id`` says which app's.
        trace: a ``Trace``, or the same as a mapping.
        rules: ``TraceRules.of(settings.tracing)``.
        celery: publishes right after the commit; without it a worker's relay does.

    Returns:
        The trace's id, 32 hex digits; its deliveries have it in ``trace_id``.

    Raises:
        InvalidRequest: it is no trace; the message says where.
        TraceTooLarge: it passes a limit.
        NotFound: there is no such tenant.
    """
    checked = checked_trace(trace)
    if len(checked.spans) > rules.max_spans:
        raise TraceTooLarge(
            f"the trace has {len(checked.spans)} spans, more than {rules.max_spans}: "
            "record it in parts, or raise TRACE_MAX_SPANS"
        )
    recording = _Recording(session, checked_id("tenant_id", tenant_id), rules, celery)
    recording.record(checked)
    return checked.trace_id


@dataclass(frozen=True, slots=True)
class _Draft:
    config: TraceConfig | None
    redaction: Redaction
    payload: bytes


class _Recording:
    def __init__(
        self, session: Session, tenant_id: UUID, rules: TraceRules, celery: Celery | None
    ) -> None:
        self._session = session
        self._tenant_id = tenant_id
        self._rules = rules
        self._celery = celery

    def record(self, trace: Trace) -> None:
        configs = configs_for(self._session, self._tenant_id, trace.app_id)
        # All of them before the first is written: what is refused leaves nothing.
        drafts = [self._draft(trace, config) for config in configs] or [self._draft(trace, None)]
        for draft in drafts:
            if draft.config is None or not self._appended(trace, draft.config, draft.redaction):
                self._write(trace, draft)

    def _draft(self, trace: Trace, config: TraceConfig | None) -> "_Draft":
        redaction = self._rules.redaction.of_config(config.options if config else {})
        payload, json_bytes = packed(trace, redaction)
        if json_bytes > self._rules.max_bytes:
            raise TraceTooLarge(
                f"the trace has {json_bytes} bytes, more than {self._rules.max_bytes}: "
                "record it in parts, or raise TRACE_MAX_BYTES"
            )
        return _Draft(config, redaction, payload)

    def _appended(self, trace: Trace, config: TraceConfig, redaction: Redaction) -> bool:
        values = {
            "trace_id": trace.trace_id,
            "config_id": config.id,
            "version": config.version,
        }
        row = self._session.execute(_OPEN_PART, values).one_or_none()
        if row is None:
            return False
        whole = merged(unpacked(bytes(row.payload)), trace)
        if whole is None or len(whole.spans) > self._rules.max_spans:
            return False
        payload, json_bytes = packed(whole, redaction)
        if json_bytes > self._rules.max_bytes:
            return False
        # Also of what was due before: whoever came for it at this moment found it locked.
        is_due = row.due_at is None or not whole.awaits_parents
        written = {
            "id": row.id,
            "payload": payload,
            "payload_bytes": len(payload),
            "span_count": len(whole.spans),
            "name": redaction.shown(whole.name),
            "is_due": is_due,
            "message_id": self._announced(row.id) if is_due else None,
        }
        self._session.execute(_APPENDED, written)
        return True

    def _write(self, trace: Trace, draft: "_Draft") -> None:
        config = draft.config
        delivery_id = uuid4()
        wait_seconds = self._rules.gather_seconds if trace.awaits_parents else 0.0
        ends: dict[str, Any] = {
            "status": TraceStatus.DISABLED,
            "error": NO_CONFIG,
            "ended_at": func.statement_timestamp(),
        }
        if config is not None:
            ends = {
                "config_id": config.id,
                "config_version": config.version,
                "provider": config.provider,
                "due_at": _in_seconds(wait_seconds) if wait_seconds else None,
                "message_id": self._announced(delivery_id, wait_seconds),
            }
        following = func.coalesce(func.max(TraceDelivery.part) + 1, 0).label("part")
        earlier = select(following).where(
            TraceDelivery.trace_id == trace.trace_id,
            TraceDelivery.tenant_id == self._tenant_id,
            TraceDelivery.config_id.is_not_distinct_from(config.id if config else None),
        )
        values = {
            "id": delivery_id,
            "tenant_id": self._tenant_id,
            "app_id": trace.app_id,
            "trace_id": trace.trace_id,
            # MySQL reads the table that is written to only by a table of its own.
            "part": select(earlier.subquery("earlier").c.part).scalar_subquery(),
            "name": draft.redaction.shown(trace.name),
            "kind": trace.kind,
            "payload": draft.payload,
            "payload_bytes": len(draft.payload),
            "schema_version": trace.schema_version,
            "span_count": len(trace.spans),
            **ends,
        }
        self._session.execute(insert(TraceDelivery).values(**values))

    def _announced(self, delivery_id: UUID, delay_seconds: float = 0.0) -> UUID:
        return announce_trace(
            self._session,
            delivery_id,
            self._tenant_id,
            celery=self._celery,
            delay_seconds=delay_seconds,
        )


def announce_trace(
    session: Session,
    delivery_id: UUID,
    tenant_id: UUID,
    *,
    celery: Celery | None = None,
    delay_seconds: float = 0.0,
) -> UUID:
    """Write the message about a delivery, in the caller's transaction; returns its id."""
    return outbox.write(
        session,
        PROCESS_TRACE.name,
        [str(delivery_id)],
        celery=celery,
        tenant_id=tenant_id,
        delay_seconds=delay_seconds,
    )


def _in_seconds(seconds: float) -> Any:
    # As the outbox counts it: the message must not be there before the trace is due.
    return func.now() + func.make_interval(0, 0, 0, 0, 0, 0, seconds)
