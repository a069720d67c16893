"""Mail deliveries: one row a message and recipient, from its acceptance to its end.

::

    queued  -> sending -> sent          confirmed by the server
    sending -> queued                   the server said "later": nothing was taken
    sending -> unknown -> resent        no answer after the handover: one more copy, same Message-ID
    any but sent, resent -> failed      refused, given up, or handed over twice without an answer
    queued  -> disabled                 MAIL_TYPE is empty
    failed, disabled -> queued          an operator retries it
"""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, SmallInteger, String, func, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base, Created, Identified
from shared.models.leased import Leased
from shared.models.outbox import NO_TENANT
from shared.models.types import JSON, MOMENT, TEXT


class MailStatus(StrEnum):
    """Where a mail stands."""

    QUEUED = "queued"  #: accepted, nothing handed over yet
    SENDING = "sending"  #: handed over, the answer is not in yet
    UNKNOWN = "unknown"  #: handed over, no answer came: one more copy will be sent
    SENT = "sent"  #: confirmed
    RESENT = "resent"  #: confirmed, after a copy that was not
    FAILED = "failed"  #: ended without confirmation; ``error`` says why
    DISABLED = "disabled"  #: not sent: mail is switched off


UNFINISHED = (MailStatus.QUEUED, MailStatus.SENDING, MailStatus.UNKNOWN)
DELIVERED = (MailStatus.SENT, MailStatus.RESENT)
_STATUSES = ", ".join(f"'{status}'" for status in MailStatus)


def _when() -> Mapped[datetime | None]:
    return mapped_column(MOMENT)


class MailDelivery(Leased, Identified, Created, Base):
    """One mail to one address.

    ``fields`` is what its text is made of; codes and tokens are apart in
    ``secrets``, sealed, and go when the mail is delivered.
    """

    __tablename__ = "mail_deliveries"
    __table_args__ = (
        CheckConstraint(f"status IN ({_STATUSES})", name="status"),
        # How many of a kind went to an address of late?
        Index("ix_mail_deliveries_recipient_kind", "recipient", "kind", "created_at"),
        Index("ix_mail_deliveries_created_at", "created_at"),
        # The sweeper's question: what is unfinished, and since when?
        Index(
            "ix_mail_deliveries_unfinished",
            "status",
            "lease_expires_at",
            postgresql_where=text("status IN ('queued', 'sending', 'unknown')"),
        ),
    )

    tenant_id: Mapped[UUID] = mapped_column(default=NO_TENANT)
    kind: Mapped[str] = mapped_column(String(64))
    recipient: Mapped[str] = mapped_column(String(320))
    language: Mapped[str] = mapped_column(String(16))
    fields: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    secrets: Mapped[str | None] = mapped_column(TEXT)

    status: Mapped[MailStatus] = mapped_column(
        String(16), default=MailStatus.QUEUED, server_default="queued"
    )
    #: Copies handed over whose refusal is not known: 2 is the most there will be.
    copies: Mapped[int] = mapped_column(SmallInteger, default=0, server_default="0")
    #: What stopped the last attempt, or ended it.
    error: Mapped[str | None] = mapped_column(TEXT)
    #: The Message-ID header: the same in every copy.
    header_id: Mapped[str | None] = mapped_column(String(512))
    provider: Mapped[str | None] = mapped_column(String(16))
    #: The provider's own name for it, where it has one.
    provider_id: Mapped[str | None] = mapped_column(String(255))
    #: The provider's last answer.
    provider_words: Mapped[str | None] = mapped_column(TEXT)
    #: The outbox message that announces it; gone from there, the sweeper writes another.
    message_id: Mapped[UUID | None]

    #: When it began to wait.
    queued_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())
    handed_over_at: Mapped[datetime | None] = _when()
    ended_at: Mapped[datetime | None] = _when()
