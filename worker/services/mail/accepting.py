"""Messages that carry content, as Dify's do: written into rows first, then sent from there."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.errors import InvalidRequest
from shared.models import MailDelivery
from shared.submitting.mail import Acceptance, announce, write_deliveries
from shared.submitting.mail_kinds import MailKind
from worker.services.mail.needs import MailNeeds


def accept_content(
    message_id: UUID,
    kind: MailKind,
    to: "str | list[str]",
    language: str,
    fields: Mapping[str, Any],
    needs: MailNeeds,
) -> list[UUID]:
    """Write the rows of a message, if they are not there yet.

    One address: the row has the message's id. Several: each has a row of its own and
    a message of its own, so that one does not wait for, or repeat, another.

    Returns:
        The deliveries that this message itself has to send.

    Raises:
        InvalidRequest: a field is wrong, or no address is one.
    """
    recipients = [to] if isinstance(to, str) else to
    if not isinstance(recipients, (list, tuple)) or not recipients:
        raise InvalidRequest("to: a mail goes to an address, or to a list of them")
    with needs.sessions.begin() as session:
        answers = _written(session, message_id, kind, list(recipients), language, fields, needs)
    if len(recipients) > 1:
        return []
    (answer,) = answers
    if answer.error is not None:
        raise answer.error
    return [answer.delivery_id]


def _written(
    session: Session,
    message_id: UUID,
    kind: MailKind,
    recipients: list[str],
    language: str,
    fields: Mapping[str, Any],
    needs: MailNeeds,
) -> list[Acceptance]:
    if len(recipients) == 1:
        drafts = [(message_id, recipients[0])]
    else:
        drafts = [(uuid5(message_id, str(one)), one) for one in recipients]

    def announced(delivery_id: UUID) -> UUID:
        if len(recipients) == 1:
            return message_id
        return announce(session, kind, delivery_id, celery=needs.celery)

    return write_deliveries(
        session, kind, drafts, language, dict(fields), needs.rules, announced=announced
    )


def has_delivery(session: Session, delivery_id: UUID) -> bool:
    """Whether there is such a row."""
    query = select(MailDelivery.id).where(MailDelivery.id == delivery_id)
    return session.scalar(query) is not None
