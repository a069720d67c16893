"""Where a tenant's traces go, and each trace's way there.

Of a delivery::

    waiting -> sending -> delivered      the provider took all of it
               sending -> partial        it took some; ``rejections`` says which spans not
               sending -> waiting        "later", or nobody there: tried again
               sending -> failed         refused, or given up
    waiting, sending -> cancelled        its configuration was changed or deleted
    disabled                             there was no configuration when it was recorded
    failed, partial, cancelled, disabled -> waiting     an operator replays it
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
from shared.models.types import BYTES, JSON, MOMENT, TEXT


class TraceStatus(StrEnum):
    """Where a trace stands."""

    WAITING = "waiting"  #: accepted, not yet at the provider
    SENDING = "sending"  #: a worker hands it over
    DELIVERED = "delivered"  #: the provider took it
    PARTIAL = "partial"  #: the provider took some of its spans, for good
    FAILED = "failed"  #: ended; ``error`` says why
    CANCELLED = "cancelled"  #: not sent: its configuration was changed or deleted
    DISABLED = "disabled"  #: not sent: nobody said where to


UNFINISHED = (TraceStatus.WAITING, TraceStatus.SENDING)
REPLAYABLE = (
    TraceStatus.PARTIAL,
    TraceStatus.FAILED,
    TraceStatus.CANCELLED,
    TraceStatus.DISABLED,
)
_STATUSES = ", ".join(f"'{status}'" for status in TraceStatus)
_IS_UNFINISHED = text("status IN ('waiting', 'sending')")
_IS_ENDED = text("status NOT IN ('waiting', 'sending')")


def _when() -> Mapped[datetime | None]:
    return mapped_column(MOMENT)


class TraceConfig(Identified, Created, Base):
    """A provider that a tenant's traces, or one app's, are sent to.

    An app that has any of its own uses none of the tenant's, also while its own are
    switched off. ``version`` grows with every change: a delivery is sent by the version
    it was recorded for, or not at all.
    """

    __tablename__ = "trace_configs"
    __table_args__ = (
        UniqueConstraint("tenant_id", "app_id", "provider", postgresql_nulls_not_distinct=True),
    )

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    #: ``None``: of all the tenant's apps that have none of their own.
    app_id: Mapped[str | None] = mapped_column(String(256))
    provider: Mapped[str] = mapped_column(String(16))
    #: The provider's address; its own cloud's, when unset.
    endpoint: Mapped[str | None] = mapped_column(String(2048))
    #: A JSON object, sealed with SECRET_KEY; ``None`` when there is none, or it was invalidated.
    secrets: Mapped[str | None] = mapped_column(TEXT)
    #: What is no secret: project, workspace, entity …
    options: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    version: Mapped[int] = mapped_column(default=1, server_default="1")
    is_enabled: Mapped[bool] = mapped_column(default=True, server_default=text("true"))
    updated_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())


class TraceDelivery(Leased, Identified, Created, Base):
    """One trace, or a part of one, on its way to one provider."""

    __tablename__ = "trace_deliveries"
    __table_args__ = (
        CheckConstraint(f"status IN ({_STATUSES})", name="status"),
        # A tenant's, the newest first; and those that go with a tenant.
        Index("ix_trace_deliveries_tenant", "tenant_id", "created_at"),
        Index("ix_trace_deliveries_trace", "trace_id"),
        # What else waits for the same provider? What is unfinished when that changes?
        Index(
            "ix_trace_deliveries_config",
            "config_id",
            "queued_at",
            postgresql_where=_IS_UNFINISHED,
        ),
        # The sweeper's question.
        Index(
            "ix_trace_deliveries_unfinished",
            "status",
            "lease_expires_at",
            postgresql_where=_IS_UNFINISHED,
        ),
        # The clean-up's questions: what is old, and what is large?
        Index("ix_trace_deliveries_ended", "status", "ended_at", postgresql_where=_IS_ENDED),
        Index(
            "ix_trace_deliveries_large",
            "payload_bytes",
            postgresql_where=text("storage_key IS NULL AND status NOT IN ('waiting', 'sending')"),
        ),
    )

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    app_id: Mapped[str | None] = mapped_column(String(256))
    trace_id: Mapped[str] = mapped_column(String(32))
    #: 0 is the first that was recorded of it; later ones hold spans that came later.
    part: Mapped[int] = mapped_column(default=0, server_default="0")
    name: Mapped[str] = mapped_column(String(512))
    kind: Mapped[str] = mapped_column(String(16))
    #: No foreign key: what was sent by a configuration outlives it.
    config_id: Mapped[UUID | None]
    config_version: Mapped[int | None]
    provider: Mapped[str | None] = mapped_column(String(16))

    status: Mapped[TraceStatus] = mapped_column(
        String(16), default=TraceStatus.WAITING, server_default="waiting"
    )
    #: See ``shared.submitting.trace_payload``; ``None`` while it lies in the storage.
    payload: Mapped[bytes | None] = mapped_column(BYTES)
    storage_key: Mapped[str | None] = mapped_column(String(512))
    #: Of the payload, deflated.
    payload_bytes: Mapped[int]
    schema_version: Mapped[int] = mapped_column(SmallInteger, default=1, server_default="1")
    span_count: Mapped[int]
    sent_spans: Mapped[int] = mapped_column(default=0, server_default="0")
    rejected_spans: Mapped[int] = mapped_column(default=0, server_default="0")
    #: ``[{"span_id": …, "reason": …}]``; ``span_id`` is null where the provider named none.
    rejections: Mapped[list[Any]] = mapped_column(JSON, default=list, server_default="[]")
    #: What stopped the last attempt, or ended it.
    error: Mapped[str | None] = mapped_column(TEXT)
    #: The provider's last answer.
    provider_words: Mapped[str | None] = mapped_column(TEXT)
    #: The outbox message that announces it; gone from there, the sweeper writes another.
    message_id: Mapped[UUID | None]

    #: When it began to wait.
    queued_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())
    #: Not to be sent before: its root is still awaited, or the provider asked for time.
    due_at: Mapped[datetime | None] = _when()
    handed_over_at: Mapped[datetime | None] = _when()
    ended_at: Mapped[datetime | None] = _when()
