"""Traces that wait with nobody to come back to them, and those whose message was given up."""

import logging
from collections.abc import Sequence
from uuid import UUID

from celery import Celery
from sqlalchemy import TextClause, text
from sqlalchemy.orm import Session

from shared.submitting.files import storable
from worker.delivery import runs
from worker.delivery.lease import owner
from worker.services.ops_trace.export_needs import ExportNeeds
from worker.services.ops_trace.trace_announcing import announce_traces

logger = logging.getLogger(__name__)

_BATCH = 1000
_COLUMNS = "trace.id, trace.tenant_id, trace.span_count"
_UNHEARD = "NOT EXISTS (SELECT FROM outbox WHERE outbox.id = trace.message_id)"


def _statement(words: str) -> TextClause:
    return text(words.format(columns=_COLUMNS, unheard=_UNHEARD))


# A delivery that waits has a message in the outbox, or a breaker that is open.
_ORPHANS = _statement("""
    SELECT {columns}, trace.config_id FROM trace_deliveries AS trace
    WHERE trace.status IN ('waiting', 'sending') AND trace.config_id IS NOT NULL
      AND (trace.lease_expires_at < now()
           OR (trace.lease_expires_at IS NULL AND greatest(trace.queued_at, trace.due_at)
               < now() - make_interval(secs => :grace_seconds)))
      AND {unheard}
      AND trace.config_id NOT IN (
          SELECT config_id FROM trace_breakers WHERE open_until IS NOT NULL
      )
    ORDER BY trace.config_id, trace.queued_at
    LIMIT :batch
    FOR UPDATE OF trace SKIP LOCKED
""")
# A provider that was left alone for long enough, with nobody on the way to try it. What was
# tried last comes last: one that can never be sent must not stand in the others' way.
_PROBES = _statement("""
    SELECT {columns} FROM trace_breakers AS breaker
    JOIN trace_deliveries AS trace ON trace.id = (
        SELECT id FROM trace_deliveries
        WHERE config_id = breaker.config_id AND status IN ('waiting', 'sending')
          AND (lease_expires_at IS NULL OR lease_expires_at < now())
          AND (due_at IS NULL OR due_at <= now())
        ORDER BY handed_over_at NULLS FIRST, queued_at LIMIT 1
    )
    WHERE breaker.open_until < now()
      AND (breaker.probe_until IS NULL OR breaker.probe_until < now())
      AND {unheard}
""")
_NEXT_PROBE = _statement("""
    SELECT {columns} FROM trace_deliveries AS trace
    WHERE trace.config_id = :config_id AND trace.status = 'waiting'
      AND trace.lease_expires_at IS NULL AND (trace.due_at IS NULL OR trace.due_at <= now())
    ORDER BY trace.handed_over_at NULLS FIRST, trace.queued_at LIMIT 1
""")
_PARKED = _statement("""
    SELECT {columns} FROM trace_deliveries AS trace
    WHERE trace.config_id = :config_id AND trace.status IN ('waiting', 'sending')
      AND (trace.lease_expires_at IS NULL OR trace.lease_expires_at < now())
      AND {unheard}
    ORDER BY trace.queued_at LIMIT :batch
    FOR UPDATE OF trace SKIP LOCKED
""")
# Of a message's traces, those that were neither taken nor are another worker's.
_LEFT = _statement("""
    SELECT {columns},
           CAST(greatest(extract(epoch FROM trace.due_at - now()), 0) AS float8) AS due_seconds
    FROM trace_deliveries AS trace
    WHERE trace.id = ANY(CAST(:ids AS uuid[])) AND trace.status IN ('waiting', 'sending')
      AND (trace.lease_expires_at IS NULL OR trace.lease_expires_at < now())
      AND trace.config_id NOT IN (
          SELECT config_id FROM trace_breakers WHERE open_until IS NOT NULL
      )
    FOR UPDATE OF trace SKIP LOCKED
""")
_NAMED = _statement("""
    SELECT {columns} FROM trace_deliveries AS trace
    WHERE trace.id = ANY(CAST(:ids AS uuid[])) AND trace.status IN ('waiting', 'sending')
""")
_GIVE_UP = text("""
    UPDATE trace_deliveries
    SET status = 'failed', error = :reason, ended_at = statement_timestamp(),
        lease_token = lease_token + 1, lease_expires_at = NULL, lease_owner = NULL
    WHERE id = ANY(CAST(:ids AS uuid[])) AND status IN ('waiting', 'sending')
      AND (lease_expires_at IS NULL OR lease_expires_at < now() OR lease_owner = :owner)
""")
_REVIVE = text("""
    UPDATE trace_deliveries
    SET status = 'waiting', attempts = 0, deaths = 0, error = NULL, ended_at = NULL,
        sent_spans = 0, rejected_spans = 0, rejections = '[]',
        queued_at = statement_timestamp()
    WHERE id = ANY(CAST(:ids AS uuid[])) AND status = 'failed'
""")


def sweep_traces(needs: ExportNeeds, grace_seconds: float) -> int:
    """Announce deliveries that nobody will come back to.

    Args:
        needs: sessions, and what publishes.
        grace_seconds: how long a message has to arrive.

    Returns:
        How many there were.
    """
    swept = 0
    while found := _sweep_batch(needs, grace_seconds):
        swept += found
        runs.checkpoint()
    with needs.sessions.begin() as session:
        # A message each: they are of different providers.
        for row in session.execute(_PROBES).all():
            swept += announce_traces(session, [row], needs.celery)
    if swept:
        logger.warning(
            "%s traces had no message: announced again", swept, extra={"action": "sweeper.traces"}
        )
    return swept


def announce_parked(config_id: UUID, needs: ExportNeeds) -> int:
    """Announce what waited for a provider that is back; returns how many there were."""
    announced = 0
    while True:
        with needs.sessions.begin() as session:
            rows = session.execute(_PARKED, {"config_id": config_id, "batch": _BATCH}).all()
            announced += announce_traces(session, rows, needs.celery)
        if len(rows) < _BATCH:
            return announced
        runs.checkpoint()


def announce_probe(
    session: Session, config_id: UUID, celery: Celery, *, delay_seconds: float
) -> None:
    """Announce, in the caller's transaction, the one that tries a provider out after a pause."""
    rows = session.execute(_NEXT_PROBE, {"config_id": config_id}).all()
    announce_traces(session, rows, celery, delay_seconds=delay_seconds)


def announce_left(session: Session, delivery_ids: Sequence[UUID], celery: Celery) -> None:
    """Announce alone, in the caller's transaction, what a message named and nobody took.

    A worker died on it, there was no room for it, or it is not due yet.
    """
    for row in session.execute(_LEFT, {"ids": _texts(delivery_ids)}).all():
        announce_traces(session, [row], celery, delay_seconds=row.due_seconds or 0.0)


def send_one_by_one(delivery_ids: Sequence[UUID], needs: ExportNeeds) -> None:
    """Announce each delivery by a message of its own: one of them kills its workers."""
    with needs.sessions.begin() as session:
        for row in session.execute(_NAMED, {"ids": _texts(delivery_ids)}).all():
            announce_traces(session, [row], needs.celery)


def give_up_traces(delivery_ids: Sequence[UUID], needs: ExportNeeds, reason: str) -> None:
    """End deliveries as ``failed``; one that somebody else is sending is left alone."""
    values = {"ids": _texts(delivery_ids), "reason": storable(reason), "owner": owner()}
    with needs.sessions.begin() as session:
        session.execute(_GIVE_UP, values)


def revive_traces(session: Session, delivery_ids: Sequence[UUID]) -> None:
    """Let deliveries that failed wait again, in the caller's transaction."""
    session.execute(_REVIVE, {"ids": _texts(delivery_ids)})


def _sweep_batch(needs: ExportNeeds, grace_seconds: float) -> int:
    values = {"grace_seconds": grace_seconds, "batch": _BATCH}
    with needs.sessions.begin() as session:
        by_config: dict[UUID, list[object]] = {}
        for row in session.execute(_ORPHANS, values).all():
            by_config.setdefault(row.config_id, []).append(row)
        for rows in by_config.values():
            announce_traces(session, rows, needs.celery)
    return sum(map(len, by_config.values()))


def _texts(ids: Sequence[UUID]) -> list[str]:
    return [str(one) for one in ids]
