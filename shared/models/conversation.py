"""Conversations: questions to datasets, each with the answer it got.

A message is one question and its answer::

    waiting   -> answering              a worker has it
    answering -> waiting                handed back: a service was away, or the worker shut down
    answering -> completed              the answer and its sources are whole
    waiting, answering -> cancelled     somebody asked for it; what there was of the answer stays
    waiting, answering -> error         ended; ``error`` says why
    error, cancelled -> waiting         an operator retries it

The questions of one conversation are answered one after the other, in the order they
were asked: each sees the answers before it.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    SmallInteger,
    String,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base, Created, Identified
from shared.models.leased import Leased
from shared.models.types import IDS, JSON, MOMENT, TEXT


class MessageStatus(StrEnum):
    """Where a question stands."""

    WAITING = "waiting"  #: accepted: nobody works on it
    ANSWERING = "answering"  #: a worker has it
    COMPLETED = "completed"  #: answered
    CANCELLED = "cancelled"  #: stopped by who asked
    ERROR = "error"  #: ended without an answer; ``error`` says why


UNFINISHED = (MessageStatus.WAITING, MessageStatus.ANSWERING)
_STATUSES = ", ".join(f"'{status}'" for status in MessageStatus)


def _when() -> Mapped[datetime | None]:
    return mapped_column(MOMENT)


class Conversation(Identified, Created, Base):
    """Questions that follow on each other."""

    __tablename__ = "conversations"
    __table_args__ = (Index("ix_conversations_tenant_id_created_at", "tenant_id", "created_at"),)

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    title: Mapped[str | None] = mapped_column(TEXT)
    #: What the messages up to ``summary_position`` said.
    summary: Mapped[str | None] = mapped_column(TEXT)
    #: The last message the summary covers; 0: none.
    summary_position: Mapped[int] = mapped_column(default=0, server_default="0")
    #: How many messages it has; the next one's position is one more.
    message_count: Mapped[int] = mapped_column(default=0, server_default="0")


class Message(Leased, Identified, Created, Base):
    """A question and, once it is there, its answer."""

    __tablename__ = "messages"
    __table_args__ = (
        UniqueConstraint("conversation_id", "position"),
        CheckConstraint(f"status IN ({_STATUSES})", name="status"),
        Index("ix_messages_tenant_id_created_at", "tenant_id", "created_at"),
        # The sweeper's question, and what a conversation's next turn asks.
        Index(
            "ix_messages_unfinished",
            "conversation_id",
            "position",
            postgresql_where=text("status IN ('waiting', 'answering')"),
        ),
    )

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    conversation_id: Mapped[UUID] = mapped_column(
        ForeignKey("conversations.id", ondelete="CASCADE")
    )
    #: Its place in the conversation, from 1.
    position: Mapped[int]
    #: What it is asked of, in the order of their names in the call.
    dataset_ids: Mapped[list[UUID]] = mapped_column(IDS)
    question: Mapped[str] = mapped_column(TEXT)
    #: How passages are searched: the fields of a search's options that were given.
    search_options: Mapped[dict[str, Any]] = mapped_column(
        JSON, default=dict, server_default=text("'{}'::jsonb")
    )

    status: Mapped[MessageStatus] = mapped_column(
        String(16), default=MessageStatus.WAITING, server_default="waiting"
    )
    answer: Mapped[str | None] = mapped_column(TEXT)
    #: The passages the answer was made from, numbered from 1 as the answer cites them.
    sources: Mapped[list[dict[str, Any]]] = mapped_column(
        JSON, default=list, server_default=text("'[]'::jsonb")
    )
    #: Who answered: a chat model's name, or ``extractive``.
    model: Mapped[str | None] = mapped_column(String(255))
    #: Put together from sentences of the passages: no model is configured.
    is_extractive: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    #: Why the answer ends before its end: ``tokens`` or ``bytes``; ``None``: it does not.
    cut_by: Mapped[str | None] = mapped_column(String(16))
    #: How often an answer was begun again after part of it had been shown.
    restarts: Mapped[int] = mapped_column(SmallInteger, default=0, server_default="0")
    input_tokens: Mapped[int | None]
    output_tokens: Mapped[int | None]
    error: Mapped[str | None] = mapped_column(TEXT)
    #: Somebody wants it stopped; its worker looks here if Redis did not tell.
    cancel_requested_at: Mapped[datetime | None] = _when()
    #: The outbox message that announces it: set when it is the conversation's turn. Gone
    #: from there, the sweeper writes another.
    outbox_id: Mapped[UUID | None]

    #: When it began to wait.
    queued_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())
    first_token_at: Mapped[datetime | None] = _when()
    ended_at: Mapped[datetime | None] = _when()
