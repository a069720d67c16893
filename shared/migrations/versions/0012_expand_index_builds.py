"""Changes of a whole dataset's index, and each document's part in them.

Revision: 0012, after 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def moment(name: str, **options: object) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), **options)


def upgrade() -> None:
    op.create_table(
        "dataset_index_builds",
        sa.Column("dataset_id", sa.Uuid(), nullable=False),
        sa.Column("action", sa.String(length=8), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("embedding_provider", sa.String(length=64), nullable=False),
        sa.Column("embedding_model", sa.String(length=255), nullable=False),
        sa.Column("embedding_dimension", sa.Integer(), nullable=True),
        sa.Column("status", sa.String(length=16), server_default="running", nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        moment("finished_at", nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        moment("created_at", server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "action IN ('add', 'update', 'remove')", name=op.f("ck_dataset_index_builds_action")
        ),
        sa.CheckConstraint(
            "status IN ('running', 'completed', 'error', 'superseded')",
            name=op.f("ck_dataset_index_builds_status"),
        ),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.id"],
            name=op.f("fk_dataset_index_builds_dataset_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dataset_index_builds")),
    )
    op.create_index(
        "ix_dataset_index_builds_generation",
        "dataset_index_builds",
        ["dataset_id", "generation"],
        unique=True,
    )
    op.create_index(
        "ix_dataset_index_builds_running",
        "dataset_index_builds",
        ["dataset_id"],
        unique=True,
        postgresql_where=sa.text("status = 'running'"),
    )
    op.create_table(
        "index_build_documents",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("build_id", sa.Uuid(), nullable=False),
        sa.Column("document_id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.String(length=16), server_default="waiting", nullable=False),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("message_id", sa.Uuid(), nullable=True),
        moment("queued_at", server_default=sa.text("now()"), nullable=False),
        sa.Column("lease_token", sa.BigInteger(), server_default="0", nullable=False),
        moment("lease_expires_at", nullable=True),
        sa.Column("lease_owner", sa.String(length=255), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("deaths", sa.Integer(), server_default="0", nullable=False),
        sa.CheckConstraint(
            "status IN ('waiting', 'completed', 'error')",
            name=op.f("ck_index_build_documents_status"),
        ),
        sa.ForeignKeyConstraint(
            ["build_id"],
            ["dataset_index_builds.id"],
            name=op.f("fk_index_build_documents_build_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["document_id"],
            ["documents.id"],
            name=op.f("fk_index_build_documents_document_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_index_build_documents")),
        sa.UniqueConstraint(
            "build_id", "document_id", name=op.f("uq_index_build_documents_build_id_document_id")
        ),
    )
    op.create_index(
        "ix_index_build_documents_build_id_status",
        "index_build_documents",
        ["build_id", "status", "document_id"],
    )
    op.create_index(
        "ix_index_build_documents_document_id", "index_build_documents", ["document_id"]
    )


def downgrade() -> None:
    op.drop_table("index_build_documents")
    op.drop_table("dataset_index_builds")
