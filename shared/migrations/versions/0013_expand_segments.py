"""Edits and imports of segments.

Revision: 0013, after 0012
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def moment(name: str, **options: object) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), **options)


def number(name: str) -> sa.Column:
    return sa.Column(name, sa.Integer(), server_default="0", nullable=False)


def owner() -> list[sa.Column]:
    return [
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("dataset_id", sa.Uuid(), nullable=False),
        sa.Column("document_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
    ]


def standing() -> list[sa.Column]:
    return [
        sa.Column("status", sa.String(length=16), server_default="waiting", nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("message_id", sa.Uuid(), nullable=True),
        moment("queued_at", server_default=sa.text("now()"), nullable=False),
        sa.Column("lease_token", sa.BigInteger(), server_default="0", nullable=False),
        moment("lease_expires_at", nullable=True),
        sa.Column("lease_owner", sa.String(length=255), nullable=True),
        number("attempts"),
        number("deaths"),
        sa.Column("id", sa.Uuid(), nullable=False),
        moment("created_at", server_default=sa.text("now()"), nullable=False),
    ]


def of_document(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["document_id"],
        ["documents.id"],
        name=op.f(f"fk_{table}_document_id"),
        ondelete="CASCADE",
    )


def upgrade() -> None:
    op.create_table(
        "segment_edits",
        *owner(),
        sa.Column("segment_id", sa.Uuid(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("keywords", postgresql.ARRAY(sa.Text()), nullable=True),
        *standing(),
        sa.CheckConstraint(
            "status IN ('waiting', 'indexing', 'error')", name=op.f("ck_segment_edits_status")
        ),
        of_document("segment_edits"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_segment_edits")),
        sa.UniqueConstraint("segment_id", name=op.f("uq_segment_edits_segment_id")),
    )
    op.create_index("ix_segment_edits_document_id", "segment_edits", ["document_id"])
    op.create_table(
        "segment_imports",
        *owner(),
        sa.Column("upload_file_id", sa.Uuid(), nullable=True),
        *standing(),
        number("last_row"),
        number("imported_rows"),
        number("refused_rows"),
        sa.Column(
            "problems",
            postgresql.JSONB(),
            server_default=sa.text("'[]'::jsonb"),
            nullable=False,
        ),
        moment("completed_at", nullable=True),
        sa.CheckConstraint(
            "status IN ('waiting', 'indexing', 'completed', 'error')",
            name=op.f("ck_segment_imports_status"),
        ),
        of_document("segment_imports"),
        sa.ForeignKeyConstraint(
            ["upload_file_id"],
            ["upload_files.id"],
            name=op.f("fk_segment_imports_upload_file_id"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_segment_imports")),
    )
    op.create_index("ix_segment_imports_document_id", "segment_imports", ["document_id"])
    op.create_index("ix_segment_imports_upload_file_id", "segment_imports", ["upload_file_id"])
    op.create_index(
        "ix_segment_imports_unfinished",
        "segment_imports",
        ["queued_at"],
        postgresql_where=sa.text("status IN ('waiting', 'indexing')"),
    )
    op.create_index(
        "ix_document_segments_waiting",
        "document_segments",
        ["created_at"],
        postgresql_where=sa.text("status = 'waiting'"),
    )


def downgrade() -> None:
    op.drop_index("ix_document_segments_waiting", table_name="document_segments")
    op.drop_table("segment_imports")
    op.drop_table("segment_edits")
