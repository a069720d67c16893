"""Who may answer a question now: the claim, and all the answer takes from the database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, exists, select, text
from sqlalchemy.orm import Session

from shared.errors import LeaseHeld, SubjectGone
from shared.models import Message, MessageStatus
from shared.models.conversation import UNFINISHED
from worker.delivery.lease import Lease, claim, table_of

#: Answers before the question that are read; how many are told is a matter of tokens.
_TURNS = 30

_TABLE = table_of(Message)
_earlier = _TABLE.alias("earlier")
_STATUSES = [status.value for status in UNFINISHED]
#: Written once, so that the claim's statement is built once.
_CONDITIONS = (
    Message.status.in_(_STATUSES),
    ~exists().where(
        _earlier.c.conversation_id == _TABLE.c.conversation_id,
        _earlier.c.position < _TABLE.c.position,
        _earlier.c.status.in_(_STATUSES),
    ),
)
_READ = select(_TABLE).where(_TABLE.c.id == bindparam("row_id"))
_TURNS_BEFORE = text("""
    SELECT position, question, answer FROM messages
    WHERE conversation_id = :conversation_id AND position < :position
      AND position > :position - :turns
      AND status IN ('completed', 'cancelled') AND answer <> ''
    ORDER BY position
""")
_SUMMARY = text("SELECT summary, summary_position FROM conversations WHERE id = :id")


@dataclass(frozen=True, slots=True)
class Turn:
    """A question of the conversation, and its answer."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class ClaimedQuestion:
    """A question in this worker's hands.

    Attributes:
        wishes: how passages are to be searched.
        summary: of what was said before the turns; ``None``: nothing was, or nobody says.
        turns: before the question, in their order.
        is_cancelled: whoever asked does not want an answer any more.
    """

    lease: Lease
    tenant_id: UUID
    conversation_id: UUID
    dataset_ids: Sequence[UUID]
    question: str
    wishes: Mapping[str, Any]
    restarts: int
    last_error: str | None
    is_cancelled: bool
    summary: str | None
    turns: Sequence[Turn]

    @property
    def message_id(self) -> UUID:
        """The message's id."""
        return self.lease.row_id


def claim_question(
    session: Session, message_id: UUID, lease_seconds: float
) -> ClaimedQuestion | None:
    """Claim a question whose turn it is, in the caller's transaction.

    Returns:
        ``None`` when there is nothing to do: it has ended (a message delivered twice or
        late), or another question comes first, whose end announces this one.

    Raises:
        SubjectGone: (superseded) the row was deleted.
        LeaseHeld: (superseded) another worker has it.
    """
    lease = claim(
        session, Message, message_id, lease_seconds, *_CONDITIONS, status=MessageStatus.ANSWERING
    )
    row = session.connection().execute(_READ, {"row_id": message_id}).one_or_none()
    if row is None:
        raise SubjectGone(f"there is no message {message_id} (any more)")
    if lease is None:
        if row.status == MessageStatus.ANSWERING:
            raise LeaseHeld(f"message {message_id} is being answered by {row.lease_owner}")
        return None
    summary, turns = _history(session, row)
    return ClaimedQuestion(
        lease=lease,
        tenant_id=row.tenant_id,
        conversation_id=row.conversation_id,
        dataset_ids=row.dataset_ids,
        question=row.question,
        wishes=row.search_options,
        restarts=row.restarts,
        last_error=row.error,
        is_cancelled=row.cancel_requested_at is not None,
        summary=summary,
        turns=turns,
    )


def _history(session: Session, row: Any) -> tuple[str | None, list[Turn]]:
    if row.position == 1:
        return None, []
    connection = session.connection()
    values = {"conversation_id": row.conversation_id, "position": row.position, "turns": _TURNS}
    before = connection.execute(_TURNS_BEFORE, values).all()
    summed = connection.execute(_SUMMARY, {"id": row.conversation_id}).one()
    # What the summary says need not be said again, but for the last turn: it is the context.
    last = before[-1].position if before else 0
    turns = [
        Turn(one.question, one.answer)
        for one in before
        if one.position > summed.summary_position or one.position == last
    ]
    return summed.summary, turns
