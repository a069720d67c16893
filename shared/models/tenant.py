"""Tenants, and the people who belong to them."""

from typing import Literal
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, SmallInteger, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from shared.models.base import Base, Created, Identified


class Tenant(Identified, Created, Base):
    """One customer: the unit of isolation and of fairness."""

    __tablename__ = "tenants"

    name: Mapped[str] = mapped_column(String(255), unique=True)
    #: Of its messages among all tenants': higher goes first.
    priority: Mapped[int] = mapped_column(SmallInteger, default=0, server_default="0")


class Account(Identified, Created, Base):
    """A person."""

    __tablename__ = "accounts"

    name: Mapped[str] = mapped_column(String(255))
    email: Mapped[str] = mapped_column(String(320), unique=True)
    language: Mapped[str] = mapped_column(String(16), default="en-US", server_default="en-US")


class TenantAccountJoin(Identified, Created, Base):
    """A person's role in a tenant."""

    __tablename__ = "tenant_account_joins"
    __table_args__ = (
        UniqueConstraint("tenant_id", "account_id"),
        CheckConstraint("role IN ('owner', 'admin', 'editor', 'normal')", name="role"),
    )

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    account_id: Mapped[UUID] = mapped_column(
        ForeignKey("accounts.id", ondelete="CASCADE"), index=True
    )
    role: Mapped[Literal["owner", "admin", "editor", "normal"]] = mapped_column(
        String(16), default="normal"
    )
    invited_by: Mapped[UUID | None]
