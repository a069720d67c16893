"""Alerts: an error in the log, and a mail where somebody is to get one."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy.orm import Session, sessionmaker

from shared.submitting.mail import MailRules, announce, write_deliveries
from shared.submitting.mail_kinds import kind_of

logger = logging.getLogger(__name__)

_NAMESPACE = UUID("d3d3a4a6-1f5e-5c0c-8f0e-64d0f2f3b7aa")
_KIND = "inner"


@dataclass(frozen=True, slots=True)
class AlertNeeds:
    """What an alert is sent by.

    Attributes:
        recipients: addresses; none: the log alone.
        again_seconds: the same alert is mailed at most once in this time.
    """

    sessions: sessionmaker[Session]
    rules: MailRules
    celery: Any
    recipients: Sequence[str]
    again_seconds: float


def alert(subject: str, line: str, needs: AlertNeeds) -> None:
    """Log an error, and accept a mail to each recipient.

    Args:
        subject: what it is about: the same one is mailed once in a while.
        line: what is to be said.
        needs: who gets it.
    """
    logger.error("%s: %s", subject, line, extra={"action": "alert", "about": subject})
    if not needs.recipients:
        return
    kind = kind_of(_KIND)
    # The same ids within a period: rows that are there already stay as they are.
    period = int(time.time() // needs.again_seconds)
    drafts = [
        (uuid5(_NAMESPACE, f"{subject}/{period}/{recipient}"), recipient)
        for recipient in needs.recipients
    ]
    with needs.sessions.begin() as session:
        write_deliveries(
            session,
            kind,
            drafts,
            None,
            {
                "subject": f"rag-worker: {subject}",
                "body": "<p>{{ line }}</p>",
                "substitutions": {"line": line},
            },
            needs.rules,
            announced=lambda one: announce(session, kind, one, celery=needs.celery),
        )
