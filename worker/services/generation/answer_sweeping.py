"""Questions whose message was given up, and questions that nobody will come back to."""

import logging
from uuid import UUID

from sqlalchemy import text

from shared.submitting.answer_turns import announce, announce_next, lock_conversation_of, remember
from shared.submitting.answers import revive_answer
from shared.submitting.files import storable
from worker.delivery.lease import owner
from worker.services.generation.answer_needs import AnswerNeeds

__all__ = ["give_up_answer", "revive_answer", "sweep_answers"]

logger = logging.getLogger(__name__)

_BATCH = 500
_END = text("""
    UPDATE messages
    SET status = 'error', error = :reason, ended_at = statement_timestamp(),
        restarts = restarts + deaths,
        lease_token = lease_token + 1, lease_expires_at = NULL, lease_owner = NULL
    WHERE id = :id AND status IN ('waiting', 'answering')
      AND (lease_expires_at IS NULL OR lease_expires_at < now() OR lease_owner = :owner)
    RETURNING lease_token
""")
# A question whose turn it is has a message in the outbox until it is answered.
_ORPHANS = text("""
    SELECT id, tenant_id FROM messages
    WHERE status IN ('waiting', 'answering')
      AND (lease_expires_at < now()
           OR (lease_expires_at IS NULL
               AND queued_at < now() - make_interval(secs => :grace_seconds)))
      AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.id = messages.outbox_id)
      AND NOT EXISTS (
          SELECT 1 FROM messages AS earlier
          WHERE earlier.conversation_id = messages.conversation_id
            AND earlier.position < messages.position
            AND earlier.status IN ('waiting', 'answering')
      )
    LIMIT :batch
    FOR UPDATE SKIP LOCKED
""")


def give_up_answer(message_id: UUID, needs: AnswerNeeds, reason: str) -> None:
    """End a question as ``error``; one that somebody else answers is left alone."""
    values = {"id": message_id, "reason": storable(reason), "owner": owner()}
    with needs.sessions.begin() as session:
        conversation_id = lock_conversation_of(session, message_id)
        if conversation_id is None:
            return
        token = session.connection().scalar(_END, values)
        if token is not None:
            announce_next(session, conversation_id, celery=needs.celery)
    if token is not None:
        needs.publish_end(message_id, token)


def sweep_answers(needs: AnswerNeeds, grace_seconds: float) -> int:
    """Announce questions that nobody will come back to.

    Args:
        needs: sessions, and what publishes.
        grace_seconds: how long a plain ``.delay()`` has to arrive.

    Returns:
        How many there were.
    """
    swept = 0
    while found := _sweep_batch(needs, grace_seconds):
        swept += found
    if swept:
        logger.warning(
            "%s questions had no message: announced again",
            swept,
            extra={"action": "sweeper.answers"},
        )
    return swept


def _sweep_batch(needs: AnswerNeeds, grace_seconds: float) -> int:
    with needs.sessions.begin() as session:
        values = {"grace_seconds": grace_seconds, "batch": _BATCH}
        orphans = session.execute(_ORPHANS, values).all()
        for row in orphans:
            outbox_id = announce(session, row.id, row.tenant_id, celery=needs.celery)
            remember(session, row.id, outbox_id)
    return len(orphans)
