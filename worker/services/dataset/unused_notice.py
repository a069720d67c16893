"""Owners are told what was disabled because nobody used it: a mail each, once."""

import logging
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from shared.errors import InvalidRequest
from shared.sql import text_by_database
from shared.submitting.mail import MailRules, send_mails
from worker.delivery import runs

logger = logging.getLogger(__name__)

_BATCH = 1000
_NAME_CHARACTERS = 200
#: Datasets named in a mail; the rest is counted.
_NAMED = 100

_TENANTS = text_by_database(
    """
    WITH RECURSIVE waiting AS (
        (SELECT tenant_id FROM dataset_auto_disable_logs
         WHERE NOT notified AND tenant_id > :after ORDER BY tenant_id LIMIT 1)
        UNION ALL
        SELECT following.tenant_id FROM waiting, LATERAL (
            SELECT tenant_id FROM dataset_auto_disable_logs
            WHERE NOT notified AND tenant_id > waiting.tenant_id ORDER BY tenant_id LIMIT 1
        ) AS following
    )
    SELECT tenant_id FROM waiting LIMIT :limit
""",
    mariadb="""
    SELECT DISTINCT tenant_id FROM dataset_auto_disable_logs
    WHERE NOT notified AND tenant_id > :after ORDER BY tenant_id LIMIT :limit
""",
)
_OWNERS = text("""
    SELECT account.name, account.email, account.language
    FROM tenant_account_joins AS joined JOIN accounts AS account ON account.id = joined.account_id
    WHERE joined.tenant_id = :tenant_id AND joined.role = 'owner' AND account.status = 'active'
    ORDER BY account.id
""")
# What was enabled again meanwhile needs no telling.
_NOTIFY = text("""
    WITH told AS (
        UPDATE dataset_auto_disable_logs SET notified = true
        WHERE tenant_id = :tenant_id AND NOT notified
        RETURNING dataset_id, document_id
    )
    SELECT dataset.name, count(*) AS documents
    FROM told JOIN datasets AS dataset ON dataset.id = told.dataset_id
    JOIN documents ON documents.id = told.document_id AND NOT documents.enabled
    GROUP BY dataset.id, dataset.name ORDER BY dataset.name
""")
_PURGE = text("""
    DELETE FROM dataset_auto_disable_logs WHERE id IN (
        SELECT id FROM dataset_auto_disable_logs
        WHERE created_at < now() - make_interval(days => :days)
        ORDER BY created_at LIMIT :limit FOR UPDATE SKIP LOCKED
    )
""")


def notify_owners(
    sessions: sessionmaker[Session], rules: MailRules, celery: Any, log_days: int
) -> int:
    """Accept a mail to the owners of each tenant of whose documents some were disabled.

    The mails and the note that they were told commit together. A tenant without an
    owner is told when it has one, as long as the log is kept.

    Args:
        sessions: makes sessions.
        rules: what mails are accepted by.
        celery: publishes.
        log_days: how long the log is kept.

    Returns:
        How many mails that were.
    """
    mails, after = 0, UUID(int=0)
    while True:
        with sessions() as session:
            tenants = session.scalars(_TENANTS, {"after": after, "limit": _BATCH}).all()
        for tenant_id in tenants:
            runs.checkpoint()
            try:
                with sessions.begin() as session:
                    mails += _notify(session, tenant_id, rules, celery)
            except InvalidRequest as error:
                # One tenant's odd names keep no other from being told.
                _log_untold(tenant_id, error)
        if len(tenants) < _BATCH:
            break
        after = tenants[-1]
    _purge(sessions, log_days)
    return mails


def _notify(session: Session, tenant_id: UUID, rules: MailRules, celery: Any) -> int:
    owners = session.execute(_OWNERS, {"tenant_id": tenant_id}).all()
    if not owners:
        return 0
    rows = session.execute(_NOTIFY, {"tenant_id": tenant_id}).all()
    details = _details([(row.name, row.documents) for row in rows])
    if not details:
        return 0
    accepted = [
        send_mails(
            session,
            "document_clean_notice",
            [owner.email],
            owner.language,
            rules=rules,
            tenant_id=tenant_id,
            celery=celery,
            account_name=_line(owner.name).strip() or owner.email,
            knowledge_details=details,
        )
        for owner in owners
    ]
    for one in [one for several in accepted for one in several if one.error is not None]:
        _log_untold(tenant_id, one.error)
    return sum(one.error is None for several in accepted for one in several)


def _log_untold(tenant_id: UUID, error: InvalidRequest | None) -> None:
    logger.error(
        "tenant %s: an owner is not told: %s",
        tenant_id,
        error,
        extra={"action": "dataset.owner_not_told", "tenant_id": str(tenant_id)},
    )


def _details(counted: Sequence[tuple[str, int]]) -> list[str]:
    details = [f"{_line(name)}: {number}" for name, number in counted[:_NAMED]]
    rest = counted[_NAMED:]
    if rest:
        details.append(f"+ {len(rest)}: {sum(number for _, number in rest)}")
    return details


def _line(name: str) -> str:
    # A name with a line break in it is nothing a mail takes.
    return "".join(one if one.isprintable() else " " for one in name)[:_NAME_CHARACTERS]


def _purge(sessions: sessionmaker[Session], log_days: int) -> None:
    while True:
        runs.checkpoint()
        with sessions.begin() as session:
            done: Any = session.execute(_PURGE, {"days": log_days, "limit": _BATCH})
        if done.rowcount < _BATCH:
            return
