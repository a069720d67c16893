"""Finds documents that nobody will come back to, and announces them again.

A document that waits has a message in the outbox, until it is done. One that has
none was announced by a plain ``.delay()`` that got lost, or its worker died after
the message was done. It is never failed for waiting.
"""

import logging
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from worker.services.dataset.needs import Announce

logger = logging.getLogger(__name__)

_BATCH = 1000
_ORPHANS = text("""
    SELECT document.id FROM documents AS document
    WHERE document.indexing_status NOT IN ('completed', 'error', 'paused')
      AND NOT document.is_paused
      AND (document.lease_expires_at < now()
           OR (document.lease_expires_at IS NULL
               AND document.queued_at < now() - make_interval(secs => :grace_seconds)))
      AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.id = document.message_id)
    ORDER BY document.queued_at
    LIMIT :batch
    FOR UPDATE SKIP LOCKED
""")


def sweep_documents(
    sessions: sessionmaker[Session], announce: Announce, grace_seconds: float
) -> int:
    """Announce orphaned documents again.

    Args:
        sessions: makes sessions.
        announce: writes the messages.
        grace_seconds: how long a plain ``.delay()`` has to arrive.

    Returns:
        How many there were.
    """
    swept = 0
    while found := _sweep_batch(sessions, announce, grace_seconds):
        swept += found
    if swept:
        logger.warning(
            "%s documents had no message: announced again",
            swept,
            extra={"action": "sweeper.documents"},
        )
    return swept


def _sweep_batch(sessions: sessionmaker[Session], announce: Announce, grace_seconds: float) -> int:
    with sessions.begin() as session:
        values = {"grace_seconds": grace_seconds, "batch": _BATCH}
        orphans: list[UUID] = list(session.scalars(_ORPHANS, values))
        if orphans:
            announce(session, orphans)
    return len(orphans)
