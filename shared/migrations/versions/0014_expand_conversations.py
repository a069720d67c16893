"""Conversations and their messages.

Revision: 0014, after 0013
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def moment(name: str, **options: object) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), **options)


def number(name: str) -> sa.Column:
    return sa.Column(name, sa.Integer(), server_default="0", nullable=False)


def of_tenant(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["tenant_id"], ["tenants.id"], name=op.f(f"fk_{table}_tenant_id"), ondelete="CASCADE"
    )


def upgrade() -> None:
    op.create_table(
        "conversations",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("summary", sa.Text(), nullable=True),
        number("summary_position"),
        number("message_count"),
        sa.Column("id", sa.Uuid(), nullable=False),
        moment("created_at", server_default=sa.text("now()"), nullable=False),
        of_tenant("conversations"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_conversations")),
    )
    op.create_index(
        "ix_conversations_tenant_id_created_at", "conversations", ["tenant_id", "created_at"]
    )
    op.create_table(
        "messages",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("conversation_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("dataset_ids", postgresql.ARRAY(sa.Uuid()), nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column(
            "search_options",
            postgresql.JSONB(),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column("status", sa.String(length=16), server_default="waiting", nullable=False),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column(
            "sources",
            postgresql.JSONB(),
            server_default=sa.text("'[]'::jsonb"),
            nullable=False,
        ),
        sa.Column("model", sa.String(length=255), nullable=True),
        sa.Column("is_extractive", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("cut_by", sa.String(length=16), nullable=True),
        sa.Column("restarts", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("input_tokens", sa.Integer(), nullable=True),
        sa.Column("output_tokens", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        moment("cancel_requested_at", nullable=True),
        sa.Column("outbox_id", sa.Uuid(), nullable=True),
        moment("queued_at", server_default=sa.text("now()"), nullable=False),
        moment("first_token_at", nullable=True),
        moment("ended_at", nullable=True),
        sa.Column("lease_token", sa.BigInteger(), server_default="0", nullable=False),
        moment("lease_expires_at", nullable=True),
        sa.Column("lease_owner", sa.String(length=255), nullable=True),
        number("attempts"),
        number("deaths"),
        sa.Column("id", sa.Uuid(), nullable=False),
        moment("created_at", server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "status IN ('waiting', 'answering', 'completed', 'cancelled', 'error')",
            name=op.f("ck_messages_status"),
        ),
        of_tenant("messages"),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["conversations.id"],
            name=op.f("fk_messages_conversation_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_messages")),
        sa.UniqueConstraint(
            "conversation_id", "position", name=op.f("uq_messages_conversation_id_position")
        ),
    )
    op.create_index("ix_messages_tenant_id_created_at", "messages", ["tenant_id", "created_at"])
    op.create_index(
        "ix_messages_unfinished",
        "messages",
        ["conversation_id", "position"],
        postgresql_where=sa.text("status IN ('waiting', 'answering')"),
    )


def downgrade() -> None:
    op.drop_table("messages")
    op.drop_table("conversations")
