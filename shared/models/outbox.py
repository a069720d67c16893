"""Messages accepted and not yet done, those given up, and the switch that holds them back."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Identity,
    Index,
    SmallInteger,
    String,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base, Created, Identified
from shared.models.leased import Leased
from shared.models.types import JSON, JSON_OR_NULL, MOMENT, TEXT

#: The tenant of work that is nobody's in particular.
NO_TENANT = UUID(int=0)


class OutboxMessage(Leased, Created, Base):
    """A message from the moment its transaction commits until its task is done.

    ``published_at`` is set while the broker, or the worker that took it from
    there, is believed to have it. The row and not the broker is the truth: a
    message the broker lost is published again.
    """

    __tablename__ = "outbox"
    __table_args__ = (
        # The relay walks the lanes (priority, tenant) of a queue, and each by age.
        Index(
            "ix_outbox_unpublished",
            "queue",
            "priority",
            "tenant_id",
            "available_at",
            "sequence",
            postgresql_where=text("published_at IS NULL"),
        ),
        Index(
            "ix_outbox_published",
            "queue",
            "tenant_id",
            postgresql_where=text("published_at IS NOT NULL"),
        ),
        # Every row is written five times in its short life.
        {"postgresql_with": {"fillfactor": "70", "autovacuum_vacuum_scale_factor": "0.02"}},
    )

    #: Also the id of the Celery task.
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    sequence: Mapped[int] = mapped_column(BigInteger, Identity(always=True))
    tenant_id: Mapped[UUID] = mapped_column(default=NO_TENANT)
    task: Mapped[str] = mapped_column(String(255))
    queue: Mapped[str] = mapped_column(String(64))
    args: Mapped[list[Any]] = mapped_column(JSON, default=list)
    kwargs: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    #: Higher goes first.
    priority: Mapped[int] = mapped_column(SmallInteger, default=0, server_default="0")
    available_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())
    published_at: Mapped[datetime | None] = mapped_column(MOMENT)
    #: How often it was published again because nobody took it.
    redeliveries: Mapped[int] = mapped_column(SmallInteger, default=0, server_default="0")
    #: What stopped the last attempt.
    error: Mapped[str | None] = mapped_column(TEXT)
    #: Whose trace it belongs to: ``shared.queueing.trace_context``.
    headers: Mapped[dict[str, str] | None] = mapped_column(JSON_OR_NULL)


class DeadLetter(Identified, Created, Base):
    """A message that was given up: what it was, how often it was tried, why it ended."""

    __tablename__ = "dead_letters"
    __table_args__ = (Index("ix_dead_letters_created_at", "created_at"),)

    #: The message's id; a message that was replayed and failed again has two letters.
    message_id: Mapped[UUID] = mapped_column(index=True)
    tenant_id: Mapped[UUID] = mapped_column(default=NO_TENANT)
    task: Mapped[str] = mapped_column(String(255))
    queue: Mapped[str] = mapped_column(String(64))
    args: Mapped[list[Any]] = mapped_column(JSON, default=list)
    kwargs: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    #: The class of the error that ended it.
    exception: Mapped[str] = mapped_column(String(255))
    #: Its message: what a person reads first.
    reason: Mapped[str] = mapped_column(TEXT)
    traceback: Mapped[str | None] = mapped_column(TEXT)
    #: Whose trace it belongs to.
    headers: Mapped[dict[str, str] | None] = mapped_column(JSON_OR_NULL)


class TaskSwitch(Identified, Created, Base):
    """A rule that holds or skips tasks while it exists; empty columns match everything."""

    __tablename__ = "task_switches"
    __table_args__ = (CheckConstraint("action IN ('hold', 'skip')", name="action"),)

    action: Mapped[str] = mapped_column(String(8))
    #: A task's name, or the end of it after a dot: ``document_indexing_task``.
    task: Mapped[str | None] = mapped_column(String(255))
    queue: Mapped[str | None] = mapped_column(String(64))
    tenant_id: Mapped[UUID | None]
    #: An id that stands in the message's arguments, or the message's own.
    subject_id: Mapped[UUID | None]
    reason: Mapped[str] = mapped_column(TEXT, default="", server_default="")
