"""Mail is accepted: a delivery row for each address and the message about it, in one transaction.

The message carries the row's id. Addresses and fields are checked here, so that a
caller who can still say "that is no mail address" to somebody does so at once.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4
from zlib import crc32

from celery import Celery
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from shared.errors import InvalidRequest, RecipientLimitReached
from shared.models import NO_TENANT, MailDelivery, MailStatus
from shared.queueing import outbox
from shared.queueing.locks import hold
from shared.settings import Settings
from shared.submitting.files import storable
from shared.submitting.mail_address import mail_address
from shared.submitting.mail_kinds import MailKind, kind_of, language_of
from shared.submitting.sealing import SealingKeys, seal

_RECIPIENT_CHARACTERS = 320
# In order: two callers at once cannot deadlock. Held until the caller's commit, so that
# both cannot take the last place.
_LOCK = text("""
    SELECT pg_advisory_xact_lock(CAST(hashtext('mail_deliveries') AS int), key) FROM (
        -- Few keys: the server has room for some thousand locks.
        SELECT DISTINCT hashtext(:kind || ' ' || recipient) % 512 AS key
        FROM unnest(CAST(:recipients AS text[])) AS recipient
        ORDER BY key
    ) AS keys
""")
_COUNT = text("""
    SELECT recipient, count(*) FROM mail_deliveries
    WHERE kind = :kind AND recipient = ANY(CAST(:recipients AS text[]))
      AND created_at > statement_timestamp() - make_interval(secs => :seconds)
      AND status <> 'failed'
    GROUP BY recipient
""")
_AGAIN = text("""
    UPDATE mail_deliveries
    SET status = 'queued', copies = 0, attempts = 0, deaths = 0, error = NULL, ended_at = NULL,
        queued_at = statement_timestamp(), message_id = :message_id
    WHERE id = :id AND status IN ('failed', 'disabled')
""")


@dataclass(frozen=True, slots=True)
class MailRules:
    """What every mail is accepted by.

    Attributes:
        secret_key: seals codes and tokens in the row.
        recipient_limit: mails of one kind to one address within the window; 0: no limit.
        recipient_window_seconds: that window.
        previous_keys: open what was sealed before the key was changed.
    """

    secret_key: SecretStr = field(default_factory=lambda: SecretStr(""))
    recipient_limit: int = 20
    recipient_window_seconds: float = 3600
    previous_keys: tuple[SecretStr, ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> "MailRules":
        """Those that the settings say."""
        mail = settings.mail
        return cls(
            settings.application.secret_key,
            mail.mail_recipient_limit,
            mail.mail_recipient_window_seconds,
            SealingKeys.of(settings.application).previous,
        )


@dataclass(frozen=True, slots=True)
class Acceptance:
    """One address's answer: ``error`` says why no mail will go there."""

    recipient: str
    delivery_id: UUID
    error: InvalidRequest | None = None


def send_mail(
    session: Session,
    kind: str,
    to: str,
    language: str | None = None,
    *,
    rules: MailRules,
    tenant_id: UUID | None = None,
    celery: Celery | None = None,
    **fields: Any,
) -> UUID:
    """Accept one mail: its row and the message about it, in the caller's transaction.

    Once it is committed it will be sent, whatever dies; nothing more is to be done.

    Args:
        session: any SQLAlchemy session on rag-worker's database; commit it as usual.
        kind: the name of a kind of mail, see ``mail_kinds.KINDS``.
        to: the address.
        language: a BCP 47 tag; en-US for one that there is no translation to.
        rules: ``MailRules.of(settings)``.
        tenant_id: whose mail it is: tenants take turns.
        celery: publishes right after the commit; without it a worker's relay does.
        fields: what the kind is made of.

    Returns:
        The delivery's id.

    Raises:
        InvalidRequest: no such kind, a field is missing or of the wrong type, or ``to``
            is no mail address.
        RecipientLimitReached: too many of this kind went there of late.
    """
    mail_address(to)
    (accepted,) = send_mails(
        session,
        kind,
        [to],
        language,
        rules=rules,
        tenant_id=tenant_id,
        celery=celery,
        **fields,
    )
    if accepted.error is not None:
        raise accepted.error
    return accepted.delivery_id


def send_mails(
    session: Session,
    kind: str,
    recipients: Sequence[str],
    language: str | None = None,
    *,
    rules: MailRules,
    tenant_id: UUID | None = None,
    celery: Celery | None = None,
    **fields: Any,
) -> list[Acceptance]:
    """Accept the same mail for several addresses, each on its own; see ``send_mail``.

    A bad address has a failed row that says so, and stops nobody else. An address
    named twice gets one mail.

    Returns:
        What became of each address, in order.

    Raises:
        InvalidRequest: no such kind, or a field is missing or of the wrong type.
    """
    found = kind_of(kind)
    message_ids: dict[UUID, UUID] = {}

    def announced(delivery_id: UUID) -> UUID:
        message_ids[delivery_id] = announce(
            session, found, delivery_id, tenant_id=tenant_id, celery=celery
        )
        return message_ids[delivery_id]

    drafts = [(uuid4(), one) for one in recipients]
    return write_deliveries(
        session, found, drafts, language, fields, rules, tenant_id=tenant_id, announced=announced
    )


def write_deliveries(
    session: Session,
    kind: MailKind,
    drafts: Sequence[tuple[UUID, str]],
    language: str | None,
    fields: dict[str, Any],
    rules: MailRules,
    *,
    tenant_id: UUID | None = None,
    announced: Any,
) -> list[Acceptance]:
    """Write the rows that are missing, in the caller's transaction.

    Args:
        session: the caller's.
        kind: what they are.
        drafts: an id and an address each; rows that are there already stay as they are.
        language: as the caller has it.
        fields: likewise.
        rules: the limits, and the key.
        tenant_id: whose they are.
        announced: called with a delivery's id; returns the id of the message about it.

    Raises:
        InvalidRequest: a field is missing or of the wrong type.
    """
    public, secret = kind.validated(fields)
    sealed = seal(secret, rules.secret_key) if secret else None
    answers = _checked(drafts)
    good = [one for one in answers if one.error is None]
    known = _known(session, [one.delivery_id for one in answers])
    full = _full(session, kind, [one for one in good if one.delivery_id not in known], rules)
    answers = [full.get(one.delivery_id, one) for one in answers]
    rows = [
        {
            "id": one.delivery_id,
            "tenant_id": tenant_id or NO_TENANT,
            "kind": kind.name,
            "recipient": storable(one.recipient)[:_RECIPIENT_CHARACTERS],
            "language": language_of(language),
            "fields": public,
            "secrets": sealed if one.error is None else None,
            "status": MailStatus.QUEUED if one.error is None else MailStatus.FAILED,
            "error": None if one.error is None else storable(str(one.error)),
            "message_id": announced(one.delivery_id) if one.error is None else None,
        }
        for one in answers
        if one.delivery_id not in known
    ]
    if rows:
        session.flush()
        session.execute(insert(MailDelivery).on_conflict_do_nothing(), rows)
    return answers


def announce(
    session: Session,
    kind: MailKind,
    delivery_id: UUID,
    *,
    tenant_id: UUID | None = None,
    celery: Celery | None = None,
) -> UUID:
    """Write the message about a delivery, in the caller's transaction; returns its id."""
    return outbox.write(
        session,
        kind.task_name,
        kwargs={"delivery_id": str(delivery_id)},
        celery=celery,
        tenant_id=tenant_id or NO_TENANT,
        priority=kind.priority,
    )


def retry_mail(session: Session, delivery: MailDelivery, *, celery: Celery | None = None) -> bool:
    """Send a delivery again that failed or was disabled, in the caller's transaction.

    Returns:
        Whether it will be: what waits, is being sent or is delivered is left alone.
    """
    retryable = {MailStatus.FAILED, MailStatus.DISABLED}
    session.refresh(delivery, with_for_update=True)
    if delivery.status not in retryable:
        return False
    kind = kind_of(delivery.kind)
    message_id = announce(session, kind, delivery.id, tenant_id=delivery.tenant_id, celery=celery)
    session.flush()
    session.execute(_AGAIN, {"id": delivery.id, "message_id": message_id})
    return True


def _checked(drafts: Iterable[tuple[UUID, str]]) -> list[Acceptance]:
    answers: dict[str, Acceptance] = {}
    for delivery_id, given in drafts:
        error: InvalidRequest | None = None
        try:
            recipient = mail_address(given)
        except InvalidRequest as refused:
            recipient, error = str(given), refused
        answers.setdefault(recipient, Acceptance(recipient, delivery_id, error))
    return list(answers.values())


def _known(session: Session, ids: Sequence[UUID]) -> set[UUID]:
    query = text("SELECT id FROM mail_deliveries WHERE id = ANY(CAST(:ids AS uuid[]))")
    return set(session.scalars(query, {"ids": list(map(str, ids))}))


def _full(
    session: Session, kind: MailKind, asked: Sequence[Acceptance], rules: MailRules
) -> dict[UUID, Acceptance]:
    if not asked or not rules.recipient_limit:
        return {}
    values: dict[str, Any] = {"kind": kind.name, "recipients": [one.recipient for one in asked]}
    # As few keys as there.
    names = (f"{kind.name} {one.recipient}".encode() for one in asked)
    buckets = (f"mail/{crc32(name) % 512}" for name in names)
    hold(session.connection(), _LOCK, values, *buckets)
    values["seconds"] = rules.recipient_window_seconds
    counted: dict[str, int] = {row[0]: row[1] for row in session.execute(_COUNT, values)}
    error = RecipientLimitReached(
        f"{rules.recipient_limit} mails of kind {kind.name} went to this address within "
        f"{rules.recipient_window_seconds:g} s: ask again later, or raise MAIL_RECIPIENT_LIMIT"
    )
    return {
        one.delivery_id: Acceptance(one.recipient, one.delivery_id, error)
        for one in asked
        if counted.get(one.recipient, 0) >= rules.recipient_limit
    }
