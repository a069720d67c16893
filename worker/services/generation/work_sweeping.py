"""Finds works that nobody will come back to, and announces them again."""

import logging
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session, sessionmaker

from shared.models import GenerationWork

logger = logging.getLogger(__name__)

_BATCH = 1000
# A work that waits has a message in the outbox until it is done.
_ORPHANS = text("""
    SELECT id FROM generation_works AS work
    WHERE status IN ('waiting', 'running')
      AND (lease_expires_at < now()
           OR (lease_expires_at IS NULL
               AND queued_at < now() - make_interval(secs => :grace_seconds)))
      AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.id = work.message_id)
    ORDER BY queued_at
    LIMIT :batch
    FOR UPDATE SKIP LOCKED
""")

Announce = Callable[[Session, Sequence[GenerationWork]], None]


def sweep_works(sessions: sessionmaker[Session], announce: Announce, grace_seconds: float) -> int:
    """Announce orphaned works again; those of a document's new version come this way, too.

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
        logger.info("%s works announced", swept, extra={"action": "sweeper.generation"})
    return swept


def _sweep_batch(sessions: sessionmaker[Session], announce: Announce, grace_seconds: float) -> int:
    with sessions.begin() as session:
        values: dict[str, Any] = {"grace_seconds": grace_seconds, "batch": _BATCH}
        ids: list[UUID] = list(session.scalars(_ORPHANS, values))
        if ids:
            works = session.scalars(select(GenerationWork).where(GenerationWork.id.in_(ids)))
            announce(session, works.all())
    return len(ids)
