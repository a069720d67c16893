"""Tenants, and the people who belong to them."""

from datetime import datetime
from enum import StrEnum
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
from shared.models.types import MOMENT


class AccountStatus(StrEnum):
    """Whether a person may come in."""

    PENDING = "pending"  #: invited, has not answered
    UNINITIALIZED = "uninitialized"  #: made, has not set a password or a language
    ACTIVE = "active"
    BANNED = "banned"
    CLOSED = "closed"


class Role(StrEnum):
    """What a person may do in a tenant."""

    OWNER = "owner"
    ADMIN = "admin"
    EDITOR = "editor"
    NORMAL = "normal"
    DATASET_OPERATOR = "dataset_operator"


_STATUSES = ", ".join(f"'{status}'" for status in AccountStatus)
_ROLES = ", ".join(f"'{role}'" for role in Role)


class Tenant(Identified, Created, Base):
    """One customer: the unit of isolation and of fairness."""

    __tablename__ = "tenants"

    name: Mapped[str] = mapped_column(String(255), unique=True)
    #: Of its messages among all tenants': higher goes first.
    priority: Mapped[int] = mapped_column(SmallInteger, default=0, server_default="0")


class Account(Identified, Created, Base):
    """A person; ``email`` names one person, however it is capitalised."""

    __tablename__ = "accounts"
    __table_args__ = (
        CheckConstraint(f"status IN ({_STATUSES})", name="status"),
        Index("uq_accounts_lower_email", text("lower(email)"), unique=True),
    )

    name: Mapped[str] = mapped_column(String(255))
    email: Mapped[str] = mapped_column(String(320), unique=True)
    #: ``None``: it comes in by a code, or cannot come in yet.
    password_hash: Mapped[str | None] = mapped_column(String(255))
    language: Mapped[str] = mapped_column(String(16), default="en-US", server_default="en-US")
    status: Mapped[AccountStatus] = mapped_column(
        String(16), default=AccountStatus.ACTIVE, server_default="active"
    )
    updated_at: Mapped[datetime] = mapped_column(
        MOMENT, server_default=func.now(), onupdate=func.statement_timestamp()
    )


class TenantAccountJoin(Identified, Created, Base):
    """A person's role in a tenant."""

    __tablename__ = "tenant_account_joins"
    __table_args__ = (
        UniqueConstraint("tenant_id", "account_id"),
        CheckConstraint(f"role IN ({_ROLES})", name="role"),
    )

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    account_id: Mapped[UUID] = mapped_column(
        ForeignKey("accounts.id", ondelete="CASCADE"), index=True
    )
    role: Mapped[Role] = mapped_column(String(16), default=Role.NORMAL)
    #: The tenant that the person works in at the moment: one of theirs at most.
    current: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    invited_by: Mapped[UUID | None]
