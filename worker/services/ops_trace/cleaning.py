"""Old traces are deleted, and large ones that have ended leave the database for the storage.

A deleted row's file is noted in ``removals`` by a trigger, whoever deletes it; see
``clean_files_task``.
"""

import logging
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from shared.models import TraceStatus
from worker.delivery import runs
from worker.services.ops_trace.payloads import PayloadFiles

logger = logging.getLogger(__name__)

_BATCH = 500
_PURGE = text("""
    DELETE FROM trace_deliveries WHERE id IN (
        SELECT id FROM trace_deliveries
        WHERE status = :status AND ended_at < now() - make_interval(days => :days)
        ORDER BY ended_at LIMIT :batch
        FOR UPDATE SKIP LOCKED
    )
""")
_LARGE = text("""
    SELECT id, tenant_id, payload FROM trace_deliveries
    WHERE storage_key IS NULL AND status NOT IN ('waiting', 'sending')
      AND payload_bytes > :inline_bytes
    ORDER BY payload_bytes DESC LIMIT 1
""")
# Not one that is replayed meanwhile: it is moved when it has ended again, to the same key.
_MOVED = text("""
    UPDATE trace_deliveries SET payload = NULL, storage_key = :key
    WHERE id = :id AND storage_key IS NULL AND status NOT IN ('waiting', 'sending')
""")
# Deleted meanwhile: nobody else knows of the file.
_NOTE = text("""
    INSERT INTO removals (kind, tenant_id, storage_key)
    SELECT 'stored_file', :tenant_id, :key
    WHERE NOT EXISTS (SELECT 1 FROM trace_deliveries WHERE id = :id)
""")


@dataclass(frozen=True, slots=True)
class Retention:
    """How long ended traces are kept, and how large a row may be.

    Attributes:
        failed_days: of those that did not arrive whole: failed, partial, cancelled, disabled.
        inline_bytes: of a payload, deflated.
    """

    delivered_days: int
    failed_days: int
    inline_bytes: int

    def days_of(self, status: TraceStatus) -> int:
        """Of one status."""
        return self.delivered_days if status is TraceStatus.DELIVERED else self.failed_days


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What a run did."""

    deleted: int
    moved: int


def clean_traces(
    sessions: sessionmaker[Session], files: PayloadFiles, retention: Retention
) -> Cleaned:
    """Delete what is old and move what is large, in short transactions.

    Two at once share the work; one that dies leaves the rest to the next.

    Raises:
        ServiceUnavailable: (transient) the storage does not answer.
    """
    ended = [one for one in TraceStatus if one not in {TraceStatus.WAITING, TraceStatus.SENDING}]
    deleted = sum(_purge(sessions, status, retention.days_of(status)) for status in ended)
    moved = 0
    while _move_one(sessions, files, retention.inline_bytes):
        moved += 1
        runs.checkpoint()
    if deleted or moved:
        logger.info(
            "%s old traces deleted, %s large ones moved to the storage",
            deleted,
            moved,
            extra={"action": "traces.cleaned"},
        )
    return Cleaned(deleted, moved)


def storage_key_of(tenant_id: UUID, delivery_id: UUID) -> str:
    """Where a delivery's payload lies: made of ids, the same again after a crash."""
    return f"traces/{tenant_id}/{delivery_id}"


def _purge(sessions: sessionmaker[Session], status: TraceStatus, days: int) -> int:
    purged = 0
    while True:
        runs.checkpoint()
        with sessions.begin() as session:
            values = {"status": status.value, "days": days, "batch": _BATCH}
            done: Any = session.execute(_PURGE, values)
        gone = int(done.rowcount)
        purged += gone
        if gone < _BATCH:
            return purged


def _move_one(sessions: sessionmaker[Session], files: PayloadFiles, inline_bytes: int) -> bool:
    with sessions() as session:
        row = session.execute(_LARGE, {"inline_bytes": inline_bytes}).one_or_none()
    if row is None:
        return False
    key = storage_key_of(row.tenant_id, row.id)
    # Outside any transaction: a slow storage holds no row up. Whoever dies here, the next
    # run writes the same file again.
    files.write(key, bytes(row.payload))
    with sessions.begin() as session:
        done: Any = session.execute(_MOVED, {"id": row.id, "key": key})
        if not done.rowcount:
            session.execute(_NOTE, {"id": row.id, "tenant_id": row.tenant_id, "key": key})
    return True
