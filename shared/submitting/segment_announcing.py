"""Tells the workers of edits and imports that wait, by way of the outbox."""

from collections.abc import Sequence
from uuid import UUID

from celery import Celery
from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.contract import CREATE_SEGMENT, IMPORT_SEGMENTS, TaskContract
from shared.models import SegmentEdit, SegmentImport
from shared.queueing import outbox

_ANNOUNCED = """
    UPDATE {table} SET message_id = announced.message_id, queued_at = statement_timestamp()
    FROM unnest(CAST(:ids AS uuid[]), CAST(:message_ids AS uuid[])) AS announced(id, message_id)
    WHERE {table}.id = announced.id
"""


def announce_edits(
    session: Session,
    edits: Sequence[SegmentEdit],
    *,
    contract: TaskContract = CREATE_SEGMENT,
    celery: Celery | None = None,
) -> None:
    """Announce edits, a message each, if and when the caller's transaction commits."""
    messages = {
        str(one.id): str(
            outbox.write(
                session,
                contract.name,
                [str(one.segment_id)],
                celery=celery,
                tenant_id=one.tenant_id,
            )
        )
        for one in edits
    }
    _note(session, SegmentEdit.__tablename__, messages)


def announce_imports(
    session: Session, imports: Sequence[SegmentImport], *, celery: Celery | None = None
) -> None:
    """Announce imports, a message each, if and when the caller's transaction commits."""
    messages = {
        str(one.id): str(
            outbox.write(
                session,
                IMPORT_SEGMENTS.name,
                [str(one.id)],
                celery=celery,
                tenant_id=one.tenant_id,
            )
        )
        for one in imports
    }
    _note(session, SegmentImport.__tablename__, messages)


def _note(session: Session, table: str, messages: dict[str, str]) -> None:
    if not messages:
        return
    session.flush()
    values: dict[str, Sequence[UUID | str]] = {
        "ids": list(messages),
        "message_ids": list(messages.values()),
    }
    session.connection().execute(text(_ANNOUNCED.format(table=table)), values)
