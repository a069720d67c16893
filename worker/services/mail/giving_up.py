"""Deliveries whose message was given up, revived ones, lost ones and old ones."""

import logging
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from shared.submitting.files import storable
from shared.submitting.mail import announce
from shared.submitting.mail_kinds import BY_NAME
from worker.delivery import runs
from worker.delivery.lease import owner
from worker.services.mail.needs import MailNeeds

logger = logging.getLogger(__name__)

_BATCH = 1000
_END = text("""
    UPDATE mail_deliveries
    SET status = 'failed', error = :reason, ended_at = statement_timestamp(),
        lease_token = lease_token + 1, lease_expires_at = NULL, lease_owner = NULL
    WHERE id = :id AND status IN ('queued', 'sending', 'unknown')
      AND (lease_expires_at IS NULL OR lease_expires_at < now() OR lease_owner = :owner)
""")
_REVIVE = text("""
    UPDATE mail_deliveries
    SET status = 'queued', copies = 0, attempts = 0, deaths = 0, error = NULL, ended_at = NULL,
        queued_at = statement_timestamp()
    WHERE id = :id AND status IN ('failed', 'disabled')
""")
# A delivery that waits has a message in the outbox until it is done.
_ORPHANS = text("""
    SELECT id, kind, tenant_id FROM mail_deliveries AS mail
    WHERE status IN ('queued', 'sending', 'unknown')
      AND (lease_expires_at < now()
           OR (lease_expires_at IS NULL
               AND queued_at < now() - make_interval(secs => :grace_seconds)))
      AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.id = mail.message_id)
    ORDER BY queued_at
    LIMIT :batch
    FOR UPDATE SKIP LOCKED
""")
_ANNOUNCED = text("""
    UPDATE mail_deliveries SET message_id = announced.message_id, queued_at = statement_timestamp()
    FROM unnest(CAST(:ids AS uuid[]), CAST(:message_ids AS uuid[])) AS announced(id, message_id)
    WHERE mail_deliveries.id = announced.id
""")
_PURGE = text("""
    DELETE FROM mail_deliveries WHERE id IN (
        SELECT id FROM mail_deliveries
        WHERE created_at < now() - make_interval(days => :days)
          AND status NOT IN ('queued', 'sending', 'unknown')
        ORDER BY created_at LIMIT :batch
        FOR UPDATE SKIP LOCKED
    )
""")


def give_up_mail(delivery_id: UUID, needs: MailNeeds, reason: str) -> None:
    """End a delivery as ``failed``; one that somebody else is sending is left alone."""
    with needs.sessions.begin() as session:
        session.execute(_END, {"id": delivery_id, "reason": storable(reason), "owner": owner()})


def revive_mail(session: Session, delivery_id: UUID) -> None:
    """Let a delivery that failed wait again, in the caller's transaction."""
    session.execute(_REVIVE, {"id": delivery_id})


def sweep_mail(needs: MailNeeds, grace_seconds: float) -> int:
    """Announce deliveries that nobody will come back to.

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
            "%s mails had no message: announced again", swept, extra={"action": "sweeper.mail"}
        )
    return swept


def purge_mail(sessions: sessionmaker[Session], older_than_days: int) -> int:
    """Delete ended deliveries accepted longer ago than that; returns how many there were."""
    purged = 0
    while True:
        runs.checkpoint()
        with sessions.begin() as session:
            done: Any = session.execute(_PURGE, {"days": older_than_days, "batch": _BATCH})
        gone = int(done.rowcount)
        purged += gone
        if gone < _BATCH:
            return purged


def _sweep_batch(needs: MailNeeds, grace_seconds: float) -> int:
    with needs.sessions.begin() as session:
        orphans = session.execute(_ORPHANS, {"grace_seconds": grace_seconds, "batch": _BATCH}).all()
        announced = {
            str(row.id): str(
                announce(
                    session,
                    BY_NAME.get(row.kind, BY_NAME["test"]),
                    row.id,
                    tenant_id=row.tenant_id,
                    celery=needs.celery,
                )
            )
            for row in orphans
        }
        if announced:
            session.flush()
            values = {"ids": list(announced), "message_ids": list(announced.values())}
            session.connection().execute(_ANNOUNCED, values)
    return len(orphans)
