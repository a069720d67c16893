"""What chat models are to write in the background; summaries among segments.

Revision: 0023, after 0022
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

KINDS = "'document_summary', 'qa_pairs', 'conversation_title', 'conversation_summary'"


def moment(name: str, **options: object) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), **options)


def number(name: str) -> sa.Column:
    return sa.Column(name, sa.Integer(), server_default="0", nullable=False)


def owned_by(table: str, column: str, owners: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        [column], [f"{owners}.id"], name=op.f(f"fk_{table}_{column}"), ondelete="CASCADE"
    )


def upgrade() -> None:
    op.create_table(
        "generation_works",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("subject_id", sa.Uuid(), nullable=False),
        sa.Column("document_id", sa.Uuid(), nullable=True),
        sa.Column("conversation_id", sa.Uuid(), nullable=True),
        sa.Column("status", sa.String(length=16), server_default="waiting", nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("message_id", sa.Uuid(), nullable=True),
        moment("queued_at", server_default=sa.text("now()"), nullable=False),
        moment("completed_at", nullable=True),
        sa.Column(
            "state", postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("source_hash", sa.String(length=64), nullable=True),
        sa.Column("model", sa.String(length=255), nullable=True),
        sa.Column("is_extractive", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("lease_token", sa.BigInteger(), server_default="0", nullable=False),
        moment("lease_expires_at", nullable=True),
        sa.Column("lease_owner", sa.String(length=255), nullable=True),
        number("attempts"),
        number("deaths"),
        sa.Column("id", sa.Uuid(), nullable=False),
        moment("created_at", server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(f"kind IN ({KINDS})", name=op.f("ck_generation_works_kind")),
        sa.CheckConstraint(
            "status IN ('waiting', 'running', 'completed', 'error')",
            name=op.f("ck_generation_works_status"),
        ),
        owned_by("generation_works", "document_id", "documents"),
        owned_by("generation_works", "conversation_id", "conversations"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_generation_works")),
        sa.UniqueConstraint(
            "kind", "subject_id", name=op.f("uq_generation_works_kind_subject_id")
        ),
    )
    op.create_index("ix_generation_works_document_id", "generation_works", ["document_id"])
    op.create_index("ix_generation_works_conversation_id", "generation_works", ["conversation_id"])
    op.create_index(
        "ix_generation_works_unfinished",
        "generation_works",
        ["queued_at"],
        postgresql_where=sa.text("status IN ('waiting', 'running')"),
    )
    op.create_table(
        "passage_pairs",
        sa.Column("document_id", sa.Uuid(), nullable=False),
        sa.Column("passage_hash", sa.String(length=64), nullable=False),
        sa.Column("passage", sa.Text(), nullable=True),
        sa.Column("pairs", postgresql.JSONB(none_as_null=True), nullable=True),
        sa.Column("work_id", sa.Uuid(), nullable=True),
        moment("created_at", server_default=sa.text("now()"), nullable=False),
        owned_by("passage_pairs", "document_id", "documents"),
        sa.PrimaryKeyConstraint("document_id", "passage_hash", name=op.f("pk_passage_pairs")),
    )
    op.create_index("ix_passage_pairs_work_id", "passage_pairs", ["work_id"])
    op.create_index(
        "ix_passage_pairs_missing",
        "passage_pairs",
        ["document_id"],
        postgresql_where=sa.text("pairs IS NULL"),
    )
    op.add_column(
        "document_segments",
        sa.Column("is_summary", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )


def downgrade() -> None:
    op.drop_column("document_segments", "is_summary")
    op.drop_table("passage_pairs")
    op.drop_table("generation_works")
