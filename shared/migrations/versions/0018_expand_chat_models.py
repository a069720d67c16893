"""Tenants' own chat models, and the tokens that were spent.

Revision: 0018, after 0017
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def moment(name: str, **options: object) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), **options)


def tokens(name: str, **options: object) -> sa.Column:
    return sa.Column(name, sa.BigInteger(), nullable=False, **options)


def of_tenant(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["tenant_id"], ["tenants.id"], name=op.f(f"fk_{table}_tenant_id"), ondelete="CASCADE"
    )


def upgrade() -> None:
    op.create_table(
        "tenant_chat_models",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("base_url", sa.String(length=1024), nullable=True),
        sa.Column("model", sa.String(length=255), nullable=True),
        sa.Column("sealed_key", sa.Text(), nullable=True),
        sa.Column("context_tokens", sa.Integer(), nullable=True),
        sa.Column("tokens_per_day", sa.BigInteger(), nullable=True),
        sa.Column("input_cost_per_million", sa.Numeric(18, 6), nullable=True),
        sa.Column("output_cost_per_million", sa.Numeric(18, 6), nullable=True),
        moment("updated_at", server_default=sa.text("now()"), nullable=False),
        moment("created_at", server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "base_url IS NOT NULL OR sealed_key IS NULL",
            name=op.f("ck_tenant_chat_models_key_has_its_url"),
        ),
        of_tenant("tenant_chat_models"),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("pk_tenant_chat_models")),
    )
    op.create_table(
        "token_uses",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("model", sa.String(length=255), nullable=False),
        sa.Column("purpose", sa.String(length=32), nullable=False),
        sa.Column("subject_id", sa.Uuid(), nullable=True),
        tokens("input_tokens"),
        tokens("output_tokens", server_default="0"),
        tokens("reserved_tokens", server_default="0"),
        sa.Column("is_estimated", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("cost", sa.Numeric(20, 10), server_default="0", nullable=False),
        moment("finished_at", nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        moment("created_at", server_default=sa.text("now()"), nullable=False),
        of_tenant("token_uses"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_token_uses")),
    )
    op.create_index("ix_token_uses_created_at", "token_uses", ["created_at"])
    op.create_index("ix_token_uses_tenant_id_created_at", "token_uses", ["tenant_id", "created_at"])


def downgrade() -> None:
    op.drop_table("token_uses")
    op.drop_table("tenant_chat_models")
