"""What became of claimed traces is written down: one statement, fenced by each lease."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.models import TraceStatus
from shared.submitting.files import storable
from worker.delivery.lease import Lease

_END = text("""
    UPDATE trace_deliveries AS delivery
    SET status = ended.status, sent_spans = ended.sent_spans,
        rejected_spans = ended.rejected_spans, rejections = ended.rejections,
        error = ended.error, provider_words = coalesce(ended.words, provider_words),
        ended_at = statement_timestamp(), lease_expires_at = NULL, lease_owner = NULL
    FROM jsonb_to_recordset(CAST(:ended AS jsonb)) AS ended(
        id uuid, token bigint, status text, sent_spans int, rejected_spans int,
        rejections jsonb, error text, words text
    )
    WHERE delivery.id = ended.id AND delivery.lease_token = ended.token
    RETURNING delivery.id, delivery.message_id
""")
# A message about one trace that was sent with another's need not be delivered any more.
_FORGET = text("""
    DELETE FROM outbox
    WHERE id = ANY(CAST(:ids AS uuid[])) AND lease_expires_at IS NULL
      AND CASE jsonb_typeof((args -> 0))
          WHEN 'array' THEN jsonb_array_length((args -> 0)) = 1 ELSE true END
""")
_RELEASE = text("""
    UPDATE trace_deliveries AS delivery
    SET status = 'waiting', lease_expires_at = NULL, lease_owner = NULL,
        error = :error, provider_words = coalesce(:words, provider_words),
        attempts = attempts - :uncounted
    FROM unnest(CAST(:ids AS uuid[]), CAST(:tokens AS bigint[])) AS held(id, token)
    WHERE delivery.id = held.id AND delivery.lease_token = held.token
    RETURNING delivery.id, delivery.tenant_id, delivery.span_count, delivery.attempts
""")


@dataclass(slots=True)
class Outcome:
    """What became of one trace so far.

    Attributes:
        left: span ids nobody has said anything about.
        rejections: span ids and reasons, as they are stored.
    """

    lease: Lease
    left: set[str]
    sent_spans: int = 0
    rejections: list[dict[str, Any]] = field(default_factory=list)
    rejected_spans: int = 0
    error: str | None = None
    words: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it has ended."""
        return not self.left

    @property
    def status(self) -> TraceStatus:
        """How it ended."""
        if not self.rejections and self.error is None:
            return TraceStatus.DELIVERED
        return TraceStatus.PARTIAL if self.sent_spans else TraceStatus.FAILED

    def take(self, span_ids: Iterable[str], words: str) -> None:
        """The provider has these."""
        taken = set(span_ids) & self.left
        self.left -= taken
        self.sent_spans += len(taken)
        self.words = words or self.words

    def reject(self, span_ids: Iterable[str], reason: str) -> None:
        """The provider will never have these."""
        refused = [one for one in span_ids if one in self.left]
        self.left -= set(refused)
        self.rejected_spans += len(refused)
        self.rejections += [{"span_id": one, "reason": reason} for one in refused]
        self.words = reason

    def reject_unnamed(self, count: int, reason: str) -> None:
        """The provider did not take ``count`` of those sent, and does not say which."""
        self.rejections.append({"span_id": None, "reason": reason})
        self.rejected_spans += count
        self.sent_spans = max(self.sent_spans - count, 0)

    def fail(self, reason: str) -> None:
        """It ends here."""
        self.left.clear()
        self.error = reason


def end(session: Session, outcomes: Sequence[Outcome]) -> int:
    """Write the ends, in the caller's transaction; those whose lease was lost are left alone.

    Returns:
        How many were written.
    """
    if not outcomes:
        return 0
    ended = json.dumps([_row(one) for one in outcomes])
    rows = session.execute(_END, {"ended": ended}).all()
    messages = [str(row.message_id) for row in rows if row.message_id is not None]
    if messages:
        session.execute(_FORGET, {"ids": messages})
    return len(rows)


def put_back(
    session: Session,
    leases: Sequence[Lease],
    error: str,
    *,
    counts: bool,
    words: str | None = None,
) -> list[Any]:
    """Let them wait again, in the caller's transaction; returns the rows that were still held."""
    values = {
        "ids": [str(lease.row_id) for lease in leases],
        "tokens": [lease.token for lease in leases],
        "error": storable(error),
        "words": storable(words) if words else None,
        "uncounted": int(not counts),
    }
    return list(session.execute(_RELEASE, values))


def _row(outcome: Outcome) -> dict[str, Any]:
    error = outcome.error
    if error is None and outcome.rejections:
        total = outcome.sent_spans + outcome.rejected_spans
        reason = outcome.rejections[0]["reason"]
        error = f"{outcome.rejected_spans} of {total} spans were refused: {reason}"
    return {
        "id": str(outcome.lease.row_id),
        "token": outcome.lease.token,
        "status": outcome.status.value,
        "sent_spans": outcome.sent_spans,
        "rejected_spans": outcome.rejected_spans,
        "rejections": outcome.rejections,
        "error": storable(error) if error else None,
        "words": storable(outcome.words) if outcome.words else None,
    }
