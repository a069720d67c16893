"""Finds edits and imports of segments that nobody will come back to, and announces them again."""

import logging
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session, sessionmaker

from shared.models import SegmentEdit, SegmentImport

logger = logging.getLogger(__name__)

_BATCH = 1000
# Segments that a producer of its own wrote, whose plain message got lost.
_ADOPT = text("""
    INSERT INTO segment_edits (
        id, tenant_id, dataset_id, document_id, segment_id, version, content, answer, keywords,
        queued_at
    )
    SELECT gen_random_uuid(), segment.tenant_id, segment.dataset_id, segment.document_id,
           segment.id, segment.version, segment.content, segment.answer, segment.keywords,
           segment.created_at
    FROM document_segments AS segment JOIN documents ON documents.id = segment.document_id
    WHERE segment.status = 'waiting'
      AND segment.created_at < now() - make_interval(secs => :grace_seconds)
      AND segment.version = documents.active_version
      AND NOT EXISTS (SELECT 1 FROM segment_edits WHERE segment_id = segment.id)
    ORDER BY segment.created_at LIMIT :batch
    ON CONFLICT DO NOTHING
""")
_FORGET = text("""
    DELETE FROM segment_edits WHERE NOT EXISTS (
        SELECT 1 FROM document_segments WHERE document_segments.id = segment_edits.segment_id
    )
""")
_ORPHANS = """
    SELECT id FROM {table} AS work
    WHERE work.status IN ('waiting', 'indexing')
      AND (work.lease_expires_at < now()
           OR (work.lease_expires_at IS NULL
               AND work.queued_at < now() - make_interval(secs => :grace_seconds)))
      AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.id = work.message_id)
    ORDER BY work.queued_at
    LIMIT :batch
    FOR UPDATE SKIP LOCKED
"""
_EDITS = text(_ORPHANS.format(table="segment_edits"))
_IMPORTS = text(_ORPHANS.format(table="segment_imports"))

AnnounceEdits = Callable[[Session, Sequence[SegmentEdit]], None]
AnnounceImports = Callable[[Session, Sequence[SegmentImport]], None]


def sweep_segments(
    sessions: sessionmaker[Session],
    announce_edits: AnnounceEdits,
    announce_imports: AnnounceImports,
    grace_seconds: float,
) -> int:
    """Announce orphaned edits and imports again.

    Args:
        sessions: makes sessions.
        announce_edits: writes the messages about edits.
        announce_imports: and those about imports.
        grace_seconds: how long a plain ``.delay()`` has to arrive.

    Returns:
        How many there were.
    """
    values = {"grace_seconds": grace_seconds, "batch": _BATCH}
    with sessions.begin() as session:
        session.execute(_FORGET)
        session.execute(_ADOPT, values)
    swept = 0
    while found := _sweep_edits(sessions, announce_edits, values):
        swept += found
    while found := _sweep_imports(sessions, announce_imports, values):
        swept += found
    if swept:
        logger.warning(
            "%s edits and imports of segments had no message: announced again",
            swept,
            extra={"action": "sweeper.segments"},
        )
    return swept


def _sweep_edits(
    sessions: sessionmaker[Session], announce: AnnounceEdits, values: dict[str, Any]
) -> int:
    with sessions.begin() as session:
        ids: list[UUID] = list(session.scalars(_EDITS, values))
        if ids:
            found = session.scalars(select(SegmentEdit).where(SegmentEdit.id.in_(ids)))
            announce(session, found.all())
    return len(ids)


def _sweep_imports(
    sessions: sessionmaker[Session], announce: AnnounceImports, values: dict[str, Any]
) -> int:
    with sessions.begin() as session:
        ids: list[UUID] = list(session.scalars(_IMPORTS, values))
        if ids:
            found = session.scalars(select(SegmentImport).where(SegmentImport.id.in_(ids)))
            announce(session, found.all())
    return len(ids)
