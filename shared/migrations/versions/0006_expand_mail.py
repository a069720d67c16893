"""Mail deliveries.

Revision: 0006, after 0005
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def moment(name: str, **options: object) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), **options)


def upgrade() -> None:
    op.create_table(
        "mail_deliveries",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("recipient", sa.String(length=320), nullable=False),
        sa.Column("language", sa.String(length=16), nullable=False),
        sa.Column("fields", postgresql.JSONB(), nullable=False),
        sa.Column("secrets", sa.Text(), nullable=True),
        sa.Column("status", sa.String(length=16), server_default="queued", nullable=False),
        sa.Column("copies", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("header_id", sa.String(length=512), nullable=True),
        sa.Column("provider", sa.String(length=16), nullable=True),
        sa.Column("provider_id", sa.String(length=255), nullable=True),
        sa.Column("provider_words", sa.Text(), nullable=True),
        sa.Column("message_id", sa.Uuid(), nullable=True),
        moment("queued_at", server_default=sa.text("now()"), nullable=False),
        moment("handed_over_at", nullable=True),
        moment("ended_at", nullable=True),
        sa.Column("lease_token", sa.BigInteger(), server_default="0", nullable=False),
        moment("lease_expires_at", nullable=True),
        sa.Column("lease_owner", sa.String(length=255), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("deaths", sa.Integer(), server_default="0", nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        moment("created_at", server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "status IN ('queued', 'sending', 'unknown', 'sent', 'resent', 'failed', 'disabled')",
            name=op.f("ck_mail_deliveries_status"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mail_deliveries")),
    )
    op.create_index(
        "ix_mail_deliveries_recipient_kind", "mail_deliveries", ["recipient", "kind", "created_at"]
    )
    op.create_index("ix_mail_deliveries_created_at", "mail_deliveries", ["created_at"])
    op.create_index(
        "ix_mail_deliveries_unfinished",
        "mail_deliveries",
        ["status", "lease_expires_at"],
        postgresql_where=sa.text("status IN ('queued', 'sending', 'unknown')"),
    )


def downgrade() -> None:
    op.drop_table("mail_deliveries")
