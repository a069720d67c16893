"""Traces that ended without being delivered whole are sent again, by today's configuration."""

from typing import Any
from uuid import UUID, uuid4

from celery import Celery
from sqlalchemy import insert, text
from sqlalchemy.orm import Session

from shared.models import TraceConfig, TraceDelivery
from shared.models.trace import REPLAYABLE
from shared.submitting.trace_configs import configs_for
from shared.submitting.traces import announce_trace

_AGAIN = text("""
    UPDATE trace_deliveries
    SET status = 'waiting', attempts = 0, deaths = 0, error = NULL, ended_at = NULL,
        due_at = NULL, sent_spans = 0, rejected_spans = 0, rejections = '[]',
        queued_at = statement_timestamp(), config_id = :config_id, config_version = :version,
        provider = :provider, message_id = :message_id
    WHERE id = :id
""")
_COPIED = ("tenant_id", "app_id", "trace_id", "part", "name", "kind", "payload", "payload_bytes")
_SHAPE = ("schema_version", "span_count")


def replay_trace(session: Session, delivery_id: UUID, *, celery: Celery | None = None) -> bool:
    """Send a delivery again, in the caller's transaction.

    One that was recorded without a configuration goes to every provider there is now.

    Returns:
        Whether it will be: not what waits, is being sent or is delivered, and not while
        there is no configuration for it.
    """
    row = session.get(TraceDelivery, delivery_id, with_for_update=True, populate_existing=True)
    if row is None or row.status not in REPLAYABLE:
        return False
    configs = configs_for(session, row.tenant_id, row.app_id)
    if row.provider is not None:
        configs = [one for one in configs if one.provider == row.provider]
    if not configs:
        return False
    first, *others = configs
    # The storage has one file, whose name is the first delivery's: copies need the bytes.
    for config in others if row.payload is not None else ():
        _send(session, _copy(session, row), row.tenant_id, config, celery)
    _send(session, row.id, row.tenant_id, first, celery)
    return True


def _send(
    session: Session, delivery_id: UUID, tenant_id: UUID, config: TraceConfig, celery: Celery | None
) -> None:
    message_id = announce_trace(session, delivery_id, tenant_id, celery=celery)
    session.flush()
    values = {
        "id": delivery_id,
        "config_id": config.id,
        "version": config.version,
        "provider": config.provider,
        "message_id": message_id,
    }
    session.execute(_AGAIN, values)


def _copy(session: Session, row: TraceDelivery) -> UUID:
    made: dict[str, Any] = {name: getattr(row, name) for name in (*_COPIED, *_SHAPE)}
    made["id"] = uuid4()
    session.execute(insert(TraceDelivery).values(**made))
    return UUID(str(made["id"]))
