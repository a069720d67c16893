"""What chat models are to write in the background, and what they wrote of passages.

A work::

    waiting -> running             a worker has it
    running -> waiting             handed back: the model was away, the day's budget is spent
    running -> completed           its result is where it belongs
    waiting, running -> error      ended; ``error`` says why
    completed, error -> waiting    asked for again, or its document has a new version
"""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    String,
    UniqueConstraint,
    false,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base, Created, Identified
from shared.models.leased import Leased
from shared.models.types import JSON, JSON_OR_NULL, MOMENT, TEXT

WAITING = "waiting"  #: nobody works on it
RUNNING = "running"  #: a worker has it
COMPLETED = "completed"  #: done
ERROR = "error"  #: ended; ``error`` says why


class GenerationKind(StrEnum):
    """What is to be written."""

    DOCUMENT_SUMMARY = "document_summary"  #: a segment of the document
    QA_PAIRS = "qa_pairs"  #: questions that some passages of a document answer
    CONVERSATION_TITLE = "conversation_title"  #: ``Conversation.title``
    CONVERSATION_SUMMARY = "conversation_summary"  #: ``Conversation.summary``, rolling


_KINDS = ", ".join(f"'{kind}'" for kind in GenerationKind)


class GenerationWork(Leased, Identified, Created, Base):
    """One thing to write about one subject; asked for again, it is the same row."""

    __tablename__ = "generation_works"
    __table_args__ = (
        UniqueConstraint("kind", "subject_id"),
        CheckConstraint(f"kind IN ({_KINDS})", name="kind"),
        CheckConstraint("status IN ('waiting', 'running', 'completed', 'error')", name="status"),
        Index("ix_generation_works_document_id", "document_id"),
        Index("ix_generation_works_conversation_id", "conversation_id"),
        # The sweeper's question: what is unfinished, and since when?
        Index(
            "ix_generation_works_unfinished",
            "queued_at",
            postgresql_where=text("status IN ('waiting', 'running')"),
        ),
    )

    tenant_id: Mapped[UUID]
    kind: Mapped[GenerationKind] = mapped_column(String(32))
    #: The document, the conversation, or of ``qa_pairs`` this row itself.
    subject_id: Mapped[UUID]
    document_id: Mapped[UUID | None] = mapped_column(ForeignKey("documents.id", ondelete="CASCADE"))
    conversation_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("conversations.id", ondelete="CASCADE")
    )
    status: Mapped[str] = mapped_column(String(16), default=WAITING, server_default=WAITING)
    error: Mapped[str | None] = mapped_column(TEXT)
    #: The outbox message that announces it; gone from there, the sweeper writes another.
    message_id: Mapped[UUID | None]
    queued_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())
    completed_at: Mapped[datetime | None] = mapped_column(MOMENT)
    #: What was paid for so far, so that another delivery goes on from there.
    state: Mapped[dict[str, Any]] = mapped_column(
        JSON, default=dict, server_default=text("'{}'::jsonb")
    )
    result: Mapped[str | None] = mapped_column(TEXT)
    #: Of what the result was made from: the same again is not paid for twice.
    source_hash: Mapped[str | None] = mapped_column(String(64))
    #: Who wrote it: a chat model's name, or ``extractive``.
    model: Mapped[str | None] = mapped_column(String(255))
    is_extractive: Mapped[bool] = mapped_column(default=False, server_default=false())


class PassagePairs(Created, Base):
    """A passage of a ``qa_model`` document, and the questions that it answers."""

    __tablename__ = "passage_pairs"
    __table_args__ = (
        Index("ix_passage_pairs_work_id", "work_id"),
        Index("ix_passage_pairs_missing", "document_id", postgresql_where=text("pairs IS NULL")),
    )

    document_id: Mapped[UUID] = mapped_column(
        ForeignKey("documents.id", ondelete="CASCADE"), primary_key=True
    )
    #: SHA-256 of the passage: a re-index finds by it what was paid for.
    passage_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    #: ``None`` once the pairs are there.
    passage: Mapped[str | None] = mapped_column(TEXT)
    #: ``[[question, answer], …]``; ``None``: not written yet.
    pairs: Mapped[list[list[str]] | None] = mapped_column(JSON_OR_NULL)
    #: What writes them.
    work_id: Mapped[UUID | None]
