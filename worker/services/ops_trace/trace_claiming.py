"""Which traces a task takes: those of its message, and what else waits for the same provider."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.models import TraceConfig, TraceDelivery
from worker.delivery.lease import Lease, owner
from worker.services.ops_trace.breaking import Admission, admit, withdraw
from worker.services.ops_trace.export_needs import ExportNeeds

#: A trace that a worker died on, or that was often tried, takes no others down with it.
_CAREFUL_ATTEMPTS = 3

_CONFIGS = text("""
    SELECT DISTINCT config_id FROM trace_deliveries
    WHERE id = ANY(CAST(:ids AS uuid[])) AND status IN ('waiting', 'sending')
      AND config_id IS NOT NULL
""")
# What waits for a configuration that is gone, switched off or, of those named, another by now:
# whoever changes one cancels what waits; this is for what slipped through.
_CANCEL = text("""
    UPDATE trace_deliveries
    SET status = 'cancelled', error = :reason, ended_at = statement_timestamp(),
        lease_token = lease_token + 1, lease_expires_at = NULL, lease_owner = NULL
    WHERE config_id = :config_id AND status IN ('waiting', 'sending')
      AND (lease_expires_at IS NULL OR lease_expires_at < now())
      AND (CAST(:version AS int) IS NULL
           OR (config_version IS DISTINCT FROM :version AND id = ANY(CAST(:ids AS uuid[]))))
""")
_FREE = """
    config_id = :config_id AND config_version = :version AND status IN ('waiting', 'sending')
    AND (lease_expires_at IS NULL OR lease_expires_at < now())
    AND (due_at IS NULL OR due_at <= now())
"""
_CAREFUL = f"(deaths > 0 OR lease_expires_at IS NOT NULL OR attempts >= {_CAREFUL_ATTEMPTS})"
_CLAIM = """
    WITH free AS MATERIALIZED (
        SELECT id, queued_at, part, span_count, payload_bytes FROM trace_deliveries
        WHERE {condition}
        ORDER BY queued_at LIMIT :traces
        FOR UPDATE SKIP LOCKED
    ),
    placed AS (
        SELECT id, row_number() OVER turn AS place, sum(span_count) OVER turn AS spans,
               sum(payload_bytes) OVER turn AS bytes
        FROM free WINDOW turn AS (ORDER BY queued_at, part, id)
    )
    UPDATE trace_deliveries AS taken
    SET status = 'sending', lease_token = lease_token + 1, attempts = attempts + 1,
        deaths = deaths + CAST(lease_expires_at IS NOT NULL AS int), lease_owner = :owner,
        lease_expires_at = statement_timestamp() + make_interval(secs => :seconds),
        handed_over_at = statement_timestamp()
    FROM placed
    WHERE taken.id = placed.id
      AND (placed.place = 1 OR (placed.spans <= :spans AND placed.bytes <= :bytes))
    RETURNING taken.id, taken.tenant_id, taken.trace_id, taken.part, taken.queued_at,
              taken.span_count, taken.payload_bytes, taken.payload, taken.storage_key,
              taken.message_id, taken.error,
              taken.lease_token, taken.attempts, taken.deaths
"""
_BY_ID = "id = ANY(CAST(:ids AS uuid[])) AND " + _FREE
_ALONE = text(_CLAIM.format(condition=_BY_ID))
_NAMED = text(_CLAIM.format(condition=f"{_BY_ID} AND NOT {_CAREFUL}"))
_OTHERS = text(_CLAIM.format(condition=f"{_FREE} AND NOT {_CAREFUL}"))


@dataclass(frozen=True, slots=True)
class ClaimedTrace:
    """A delivery in this worker's hands, and its row as the claim found it."""

    lease: Lease
    row: Any


@dataclass(frozen=True, slots=True)
class ClaimedBatch:
    """Traces of one configuration.

    Attributes:
        config: its row, as it is now.
        is_probe: whether they try out a provider that was left alone.
    """

    config: TraceConfig
    traces: list[ClaimedTrace]
    is_probe: bool


def configs_of(session: Session, delivery_ids: Sequence[UUID]) -> list[UUID]:
    """The configurations that unfinished ones of these deliveries wait for."""
    ids = [str(one) for one in delivery_ids]
    return list(session.scalars(_CONFIGS, {"ids": ids}))


def claim_batch(
    session: Session, config_id: UUID, delivery_ids: Sequence[UUID], needs: ExportNeeds
) -> ClaimedBatch | None:
    """Claim deliveries, in the caller's transaction: the named ones first, then what waits longest.

    Returns:
        ``None`` when there is nothing to do: they have ended, another worker has them, or
        their provider is left alone.
    """
    config = session.get(TraceConfig, config_id)
    reason = _gone(config)
    if config is None or reason is not None:
        values: dict[str, Any] = {"config_id": config_id, "reason": reason, "version": None}
        session.execute(_CANCEL, {**values, "ids": []})
        return None
    changed = "its configuration was changed after it was recorded: `rag-worker traces replay`"
    ids = [str(one) for one in delivery_ids]
    stale = {"config_id": config_id, "reason": changed, "version": config.version, "ids": ids}
    session.execute(_CANCEL, stale)
    admission = admit(session, config_id, needs.lease_seconds)
    if admission is Admission.OPEN:
        return None
    is_probe = admission is Admission.PROBE
    traces = _claimed(session, config, ids, needs, is_probe=is_probe)
    if is_probe and not traces:
        withdraw(session, config_id)
    return ClaimedBatch(config, traces, is_probe) if traces else None


def _gone(config: TraceConfig | None) -> str | None:
    if config is None:
        return "its configuration was deleted: set one, then `rag-worker traces replay`"
    if not config.is_enabled:
        return "its configuration is switched off: switch it on, then `rag-worker traces replay`"
    return None


def _claimed(
    session: Session,
    config: TraceConfig,
    ids: Sequence[str],
    needs: ExportNeeds,
    *,
    is_probe: bool,
) -> list[ClaimedTrace]:
    limits = needs.limits
    values: dict[str, Any] = {
        "config_id": config.id,
        "version": config.version,
        "ids": list(ids),
        "traces": 1 if is_probe else limits.traces,
        "spans": limits.spans,
        "bytes": limits.payload_bytes,
        "owner": owner(),
        "seconds": needs.lease_seconds,
    }
    rows = list(session.execute(_ALONE if len(ids) == 1 else _NAMED, values))
    values["traces"] -= len(rows)
    if values["traces"] > 0 and not any(_is_careful(row) for row in rows):
        values["spans"] = max(limits.spans - sum(row.span_count for row in rows), 0)
        values["bytes"] = max(limits.payload_bytes - sum(row.payload_bytes for row in rows), 0)
        if values["spans"] and values["bytes"]:
            rows += session.execute(_OTHERS, values)
    first: dict[str, Any] = {}
    for row in rows:
        first[row.trace_id] = min(first.get(row.trace_id, row.queued_at), row.queued_at)
    rows.sort(key=lambda row: (first[row.trace_id], row.trace_id, row.part))
    return [ClaimedTrace(_lease(row, needs.lease_seconds), row) for row in rows]


def _is_careful(row: Any) -> bool:
    return bool(row.deaths) or row.attempts > _CAREFUL_ATTEMPTS


def _lease(row: Any, seconds: float) -> Lease:
    return Lease(TraceDelivery, row.id, row.lease_token, row.attempts, row.deaths, seconds)
