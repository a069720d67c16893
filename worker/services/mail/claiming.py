"""Who may send a mail now: the claim, what each refusal means, and every write of its owner."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, select
from sqlalchemy.orm import Session

from shared.errors import AttemptsExhausted, LeaseHeld, SubjectGone
from shared.models import MailDelivery, MailStatus
from shared.models.mail import UNFINISHED
from shared.submitting.mail_kinds import kind_of
from shared.submitting.sealing import unseal
from worker.delivery.lease import Lease, claim_row, renew
from worker.services.mail.needs import MailNeeds
from worker.services.mail.waiting_mail import WaitingMail

#: Written once, so that the claim's statement is built once.
_CONDITIONS = (MailDelivery.status.in_([status.value for status in UNFINISHED]),)
_CUT_OFF = "the worker that handed it over died before it knew the answer"
_AFTER_DEATH = {"status": MailStatus.UNKNOWN, "error": _CUT_OFF}


@dataclass(frozen=True, slots=True)
class ClaimedMail:
    """A delivery in this worker's hands, and its row as the claim found it."""

    lease: Lease
    row: Any


def take_mail(delivery_id: UUID, needs: MailNeeds) -> ClaimedMail | None:
    """As ``claim_mail``, each statement a transaction of its own."""
    rows = needs.rows
    claimed = rows.claim_free(MailDelivery, delivery_id, needs.lease_seconds, *_CONDITIONS)
    if claimed is None:
        with rows.single() as connection:
            return claim_mail(connection, delivery_id, needs)
    lease, row = claimed
    if row.status == MailStatus.SENDING:
        rows.renew(lease, **_AFTER_DEATH)
    return ClaimedMail(lease, row)


def claim_mail(
    session: Session | Connection, delivery_id: UUID, needs: MailNeeds
) -> ClaimedMail | None:
    """Claim a delivery and read it; after a sender's death it is ``unknown``.

    Two statements of one transaction, or of two: dying between them the next claim says it.

    Returns:
        ``None`` when there is nothing to do: it has ended (a message delivered twice or late).

    Raises:
        SubjectGone: (superseded) the row was deleted.
        LeaseHeld: (superseded) another worker has it.
    """
    claimed = claim_row(session, MailDelivery, delivery_id, needs.lease_seconds, *_CONDITIONS)
    if claimed is None:
        _explain_refusal(session, delivery_id)
        return None
    lease, row = claimed
    if row.status == MailStatus.SENDING:
        renew(session, lease, **_AFTER_DEATH)
    return ClaimedMail(lease, row)


def opened(claimed: ClaimedMail, needs: MailNeeds) -> WaitingMail:
    """What is to be sent.

    Raises:
        InvalidRequest: a kind this release does not know.
        ConfigurationError: its secrets were sealed with another key.
    """
    lease, row = claimed.lease, claimed.row
    status, error = MailStatus(row.status), row.error
    if status is MailStatus.SENDING:
        status, error = MailStatus.UNKNOWN, _CUT_OFF
    rules = needs.rules
    secret = unseal(row.secrets, rules.secret_key, rules.previous_keys) if row.secrets else {}
    return WaitingMail(
        delivery_id=row.id,
        kind=kind_of(row.kind),
        recipient=row.recipient,
        language=row.language,
        fields={**row.fields, **secret},
        accepted_at=row.created_at,
        status=status,
        copies=row.copies,
        header_id=row.header_id,
        last_error=error,
        lease=lease,
    )


def require_attempts_left(mail: WaitingMail, lease: Lease, needs: MailNeeds) -> None:
    """Check how often it was picked up, and how many copies may be out already.

    Raises:
        AttemptsExhausted: (permanent) too often, or two copies that nobody confirmed.
    """
    if mail.copies >= MOST_COPIES:
        raise AttemptsExhausted(handed_over_twice(mail.last_error))
    if lease.attempt > needs.max_attempts:
        last = mail.last_error or "the worker that had it died"
        raise AttemptsExhausted(
            f"given up after {needs.max_attempts} attempts; the last ended so: {last}"
        )


#: The mail itself and, when no answer came, one more.
MOST_COPIES = 2


def handed_over_twice(last_error: object) -> str:
    """The reason of a mail that may have arrived, and that nobody confirmed."""
    return (
        "handed over twice and never confirmed: it may have arrived; ask the recipient before "
        f"`rag-worker mail retry`; the last answer: {last_error}"
    )


def _explain_refusal(session: Session | Connection, delivery_id: UUID) -> None:
    columns: Any = (MailDelivery.status, MailDelivery.lease_owner)
    row = session.execute(select(*columns).where(MailDelivery.id == delivery_id)).one_or_none()
    if row is None:
        raise SubjectGone(f"there is no mail delivery {delivery_id} (any more)")
    if row.status in UNFINISHED:
        raise LeaseHeld(f"mail delivery {delivery_id} is being sent by {row.lease_owner}")
