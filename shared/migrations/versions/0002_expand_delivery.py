"""The outbox, dead letters, the switch, and what leases count.

Revision: 0002, after 0001
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

JSON = postgresql.JSONB(astext_type=sa.Text())


def now_column(name: str) -> sa.Column:
    return sa.Column(
        name, sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
    )


def message_columns() -> list[sa.Column]:
    return [
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("task", sa.String(length=255), nullable=False),
        sa.Column("queue", sa.String(length=64), nullable=False),
        sa.Column("args", JSON, nullable=False),
        sa.Column("kwargs", JSON, nullable=False),
    ]


def upgrade() -> None:
    op.add_column(
        "tenants",
        sa.Column("priority", sa.SmallInteger(), server_default="0", nullable=False),
    )
    op.add_column("documents", sa.Column("lease_owner", sa.String(length=255), nullable=True))
    op.add_column(
        "documents", sa.Column("deaths", sa.Integer(), server_default="0", nullable=False)
    )
    op.add_column("documents", sa.Column("message_id", sa.Uuid(), nullable=True))
    op.add_column("documents", now_column("queued_at"))
    op.create_table(
        "outbox",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        *message_columns(),
        sa.Column("priority", sa.SmallInteger(), server_default="0", nullable=False),
        now_column("available_at"),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("redeliveries", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("lease_token", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_owner", sa.String(length=255), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("deaths", sa.Integer(), server_default="0", nullable=False),
        now_column("created_at"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        postgresql_with={"fillfactor": "70", "autovacuum_vacuum_scale_factor": "0.02"},
    )
    op.create_index(
        "ix_outbox_unpublished",
        "outbox",
        ["queue", "priority", "tenant_id", "available_at", "sequence"],
        postgresql_where=sa.text("published_at IS NULL"),
    )
    op.create_index(
        "ix_outbox_published",
        "outbox",
        ["queue", "tenant_id"],
        postgresql_where=sa.text("published_at IS NOT NULL"),
    )
    op.create_table(
        "dead_letters",
        sa.Column("message_id", sa.Uuid(), nullable=False),
        *message_columns(),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("exception", sa.String(length=255), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("traceback", sa.Text(), nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        now_column("created_at"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dead_letters")),
    )
    op.create_index("ix_dead_letters_created_at", "dead_letters", ["created_at"])
    op.create_index(op.f("ix_dead_letters_message_id"), "dead_letters", ["message_id"])
    op.create_table(
        "task_switches",
        sa.Column("action", sa.String(length=8), nullable=False),
        sa.Column("task", sa.String(length=255), nullable=True),
        sa.Column("tenant_id", sa.Uuid(), nullable=True),
        sa.Column("subject_id", sa.Uuid(), nullable=True),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        now_column("created_at"),
        sa.CheckConstraint("action IN ('hold', 'skip')", name=op.f("ck_task_switches_action")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task_switches")),
    )


def downgrade() -> None:
    for table in ("task_switches", "dead_letters", "outbox"):
        op.drop_table(table)
    for column in ("queued_at", "message_id", "deaths", "lease_owner"):
        op.drop_column("documents", column)
    op.drop_column("tenants", "priority")
