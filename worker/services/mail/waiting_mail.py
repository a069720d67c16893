"""A delivery as its sending needs it; read once, at the claim."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from shared.models import MailStatus
from shared.submitting.mail_kinds import MailKind
from worker.delivery.lease import Lease


@dataclass(frozen=True, slots=True)
class WaitingMail:
    """One mail to one address.

    Attributes:
        fields: public and secret ones, unsealed.
        status: ``queued``, or ``unknown`` when a copy may have arrived.
        copies: handed over so far, their refusal not known.
        header_id: the Message-ID of the copy before, if there was one.
        last_error: what stopped the attempt before.
    """

    delivery_id: UUID
    kind: MailKind
    recipient: str
    language: str
    fields: dict[str, Any]
    accepted_at: datetime
    status: MailStatus = MailStatus.QUEUED
    copies: int = 0
    header_id: str | None = None
    last_error: str | None = None
    lease: Lease | None = None
