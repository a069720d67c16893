"""The questions of a conversation take turns: the first unfinished one has a message about it.

Whoever accepts a question, or ends one, holds the conversation's row meanwhile, so that
of two at once the second sees what the first wrote.
"""

from uuid import UUID

from celery import Celery
from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.contract import GENERATE_ANSWER
from shared.queueing import outbox

#: Somebody waits in front of a screen: before summaries and whatever else nobody looks at.
PRIORITY = 10

_LOCK = text("""
    SELECT id FROM conversations
    WHERE id = (SELECT conversation_id FROM messages WHERE id = :message_id)
    FOR UPDATE
""")
_FIRST = text("""
    SELECT id, tenant_id, status, outbox_id FROM messages
    WHERE conversation_id = :conversation_id AND status IN ('waiting', 'answering')
    ORDER BY position LIMIT 1
""")
_ANNOUNCED = text("""
    UPDATE messages SET outbox_id = :outbox_id, queued_at = statement_timestamp() WHERE id = :id
""")


def lock_conversation_of(session: Session, message_id: UUID) -> UUID | None:
    """Hold a message's conversation until the caller's commit; ``None`` when it is gone."""
    found: UUID | None = session.connection().scalar(_LOCK, {"message_id": message_id})
    return found


def announce(
    session: Session, message_id: UUID, tenant_id: UUID, *, celery: Celery | None = None
) -> UUID:
    """Write the message about a question whose turn it is, in the caller's transaction.

    Returns:
        The outbox message's id, which the question's row is to have.
    """
    return outbox.write(
        session,
        GENERATE_ANSWER.name,
        [str(message_id)],
        celery=celery,
        tenant_id=tenant_id,
        priority=PRIORITY,
    )


def announce_next(
    session: Session, conversation_id: UUID, *, celery: Celery | None = None
) -> UUID | None:
    """Announce the first unfinished question unless that was done; its conversation is locked.

    Returns:
        The question's id, if it was announced here.
    """
    connection = session.connection()
    row = connection.execute(_FIRST, {"conversation_id": conversation_id}).one_or_none()
    if row is None or row.status != "waiting" or row.outbox_id is not None:
        return None
    remember(session, row.id, announce(session, row.id, row.tenant_id, celery=celery))
    message_id: UUID = row.id
    return message_id


def remember(session: Session, message_id: UUID, outbox_id: UUID) -> None:
    """Write down that a question was announced just now."""
    session.flush()
    session.connection().execute(_ANNOUNCED, {"id": message_id, "outbox_id": outbox_id})
