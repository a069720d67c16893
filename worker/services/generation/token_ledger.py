"""What tenants spend on chat models, call by call, and the end of their day's budget.

Each call is recorded in a transaction of its own: what was spent stays spent when the
task that spent it is rolled back, lost or delivered again.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from shared.errors import BudgetExceeded, Permanent
from shared.queueing.locks import hold
from worker.providers.chat import Spending, Usage

logger = logging.getLogger(__name__)

_MILLION = 1_000_000

# Two calls at once must not both find the same rest: the tenant's reservations take turns.
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('token_uses/' || :tenant_id, 0))")
_SPENT = text("""
    SELECT coalesce(sum(input_tokens + CASE
               -- Of one that died, what it had reserved is free again.
               WHEN finished_at IS NULL AND created_at > now() - make_interval(secs => :seconds)
               THEN reserved_tokens ELSE output_tokens END), 0)::bigint AS tokens,
           extract(epoch FROM date_trunc('day', now() AT TIME ZONE 'UTC') + interval '1 day'
                              - now() AT TIME ZONE 'UTC')::float8 AS seconds_left
    FROM token_uses
    WHERE tenant_id = :tenant_id AND created_at >= date_trunc('day', now() AT TIME ZONE 'UTC')
                                                  AT TIME ZONE 'UTC'
""")
_OPEN = text("""
    INSERT INTO token_uses (
        id, tenant_id, model, purpose, subject_id, input_tokens, reserved_tokens, cost
    ) VALUES (
        :id, :tenant_id, :model, :purpose, :subject_id, :input_tokens, :reserved_tokens, :cost
    )
""")
_CLOSE = text("""
    UPDATE token_uses
    SET input_tokens = :input_tokens, output_tokens = :output_tokens, reserved_tokens = 0,
        is_estimated = :is_estimated, cost = :cost, finished_at = statement_timestamp()
    WHERE id = :id
""")
_DROP = text("DELETE FROM token_uses WHERE id = :id")
_PURGE = text("""
    DELETE FROM token_uses WHERE id IN (
        SELECT id FROM token_uses WHERE created_at < now() - make_interval(days => :days)
        ORDER BY created_at LIMIT :batch FOR UPDATE SKIP LOCKED
    )
""")
_PURGED_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class Account:
    """Whose tokens they are, and what for.

    Attributes:
        purpose: summary, title, qa_pairs, answer …
        subject_id: the document, conversation or message.
        tokens_per_day: the tenant's, 0: no limit.
    """

    tenant_id: UUID
    purpose: str
    subject_id: UUID | None
    tokens_per_day: int
    input_cost_per_million: Decimal
    output_cost_per_million: Decimal

    def cost(self, usage: Usage) -> Decimal:
        """What the tokens cost."""
        return (
            usage.input_tokens * self.input_cost_per_million
            + usage.output_tokens * self.output_cost_per_million
        ) / _MILLION


def purge_token_uses(sessions: sessionmaker[Session], older_than_days: int) -> None:
    """Delete calls of longer ago than that, at most some thousands at a time."""
    with sessions.begin() as session:
        session.execute(_PURGE, {"days": older_than_days, "batch": _PURGED_ROWS})


class TokenLedger:
    """Records one account's calls.

    Args:
        sessions: makes sessions.
        account: whose.
        call_seconds: longest that a call takes.
    """

    def __init__(
        self, sessions: sessionmaker[Session], account: Account, call_seconds: float
    ) -> None:
        self._sessions = sessions
        self._account = account
        self._call_seconds = call_seconds

    @contextmanager
    def spend(self, model: str, input_tokens: int, max_output_tokens: int) -> Iterator[Spending]:
        """Record one call; see ``Meter.spend``."""
        use_id = uuid4()
        with self._sessions.begin() as session:
            self._require_budget(session, input_tokens + max_output_tokens)
            session.execute(_OPEN, self._opening(use_id, model, input_tokens, max_output_tokens))
        spending = Spending(Usage())
        try:
            yield spending
        finally:
            self._close(use_id, spending.usage)

    def _require_budget(self, session: Session, tokens: int) -> None:
        account = self._account
        if not account.tokens_per_day:
            return
        named = {"tenant_id": str(account.tenant_id)}
        hold(session.connection(), _LOCK, named, f"token_uses/{account.tenant_id}")
        values = {"tenant_id": account.tenant_id, "seconds": self._call_seconds}
        row = session.execute(_SPENT, values).one()
        if row.tokens + tokens <= account.tokens_per_day:
            return
        if tokens > account.tokens_per_day:
            raise Permanent(
                f"this may take {tokens:,} tokens, and {account.tokens_per_day:,} are the tenant's "
                "for a whole day: raise the limit with `rag-worker models set --tokens-per-day`"
            )
        raise BudgetExceeded(
            f"{row.tokens:,} of the tenant's {account.tokens_per_day:,} tokens of this day are "
            f"spent, and this may take {tokens:,}: it waits until 0:00 UTC, or raise the limit "
            "with `rag-worker models set --tokens-per-day`",
            retry_after_seconds=float(row.seconds_left) + 1.0,
        )

    def _opening(self, use_id: UUID, model: str, sent: int, most: int) -> dict[str, Any]:
        account = self._account
        return {
            "id": use_id,
            "tenant_id": account.tenant_id,
            "model": model,
            "purpose": account.purpose,
            "subject_id": account.subject_id,
            "input_tokens": sent,
            "reserved_tokens": most,
            "cost": account.cost(Usage(sent)),
        }

    def _close(self, use_id: UUID, usage: Usage) -> None:
        try:
            with self._sessions.begin() as session:
                if usage == Usage():  # nothing was asked: refused, or not reached
                    session.execute(_DROP, {"id": use_id})
                    return
                values = {
                    "id": use_id,
                    "input_tokens": usage.input_tokens,
                    "output_tokens": usage.output_tokens,
                    "is_estimated": usage.is_estimated,
                    "cost": self._account.cost(usage),
                }
                session.execute(_CLOSE, values)
        except SQLAlchemyError as error:
            # The answer is there: better an estimate in the books than to pay for it again.
            logger.warning(
                "a call's tokens were not recorded: %s",
                error,
                extra={"action": "generation.spending_not_recorded"},
            )
