"""Tenants' own chat models, and the tokens that were spent."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Numeric, String, func, true
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base, Created, Identified
from shared.models.types import MOMENT, TEXT


class TenantChatModel(Created, Base):
    """What a tenant has of its own; a column that is ``None`` leaves it to the settings."""

    __tablename__ = "tenant_chat_models"
    __table_args__ = (
        # A key of the settings must never go to a tenant's server, nor the other way round.
        CheckConstraint("base_url IS NOT NULL OR sealed_key IS NULL", name="key_has_its_url"),
    )

    tenant_id: Mapped[UUID] = mapped_column(
        ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True
    )
    base_url: Mapped[str | None] = mapped_column(String(1024))
    model: Mapped[str | None] = mapped_column(String(255))
    #: The key, sealed with SECRET_KEY; belongs to ``base_url``.
    sealed_key: Mapped[str | None] = mapped_column(TEXT)
    context_tokens: Mapped[int | None]
    tokens_per_day: Mapped[int | None] = mapped_column(BigInteger)
    input_cost_per_million: Mapped[Decimal | None] = mapped_column(Numeric(18, 6))
    output_cost_per_million: Mapped[Decimal | None] = mapped_column(Numeric(18, 6))
    updated_at: Mapped[datetime] = mapped_column(
        MOMENT, server_default=func.now(), onupdate=func.now()
    )


class TokenUse(Identified, Created, Base):
    """One call upstream: written before it with what it may cost, after it with what it did.

    A worker that dies in between leaves what is sure, the prompt, as an estimate.
    """

    __tablename__ = "token_uses"
    __table_args__ = (
        # How much has the tenant spent today?
        Index("ix_token_uses_tenant_id_created_at", "tenant_id", "created_at"),
        Index("ix_token_uses_created_at", "created_at"),
    )

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    model: Mapped[str] = mapped_column(String(255))
    #: What it was for: summary, title, qa_pairs, answer …
    purpose: Mapped[str] = mapped_column(String(32))
    #: The document, conversation or message it was for.
    subject_id: Mapped[UUID | None]
    input_tokens: Mapped[int] = mapped_column(BigInteger)
    output_tokens: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    #: What the answer may still cost; 0 once it is over.
    reserved_tokens: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    is_estimated: Mapped[bool] = mapped_column(default=True, server_default=true())
    cost: Mapped[Decimal] = mapped_column(Numeric(20, 10), default=0, server_default="0")
    finished_at: Mapped[datetime | None] = mapped_column(MOMENT)
