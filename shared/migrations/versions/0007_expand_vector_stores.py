"""More than one index a dataset, and what lies in a vector store outside of the database.

Revision: 0007, after 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "datasets",
        sa.Column("index_generation", sa.Integer(), server_default="0", nullable=False),
    )
    op.add_column(
        "segment_vectors",
        sa.Column("generation", sa.Integer(), server_default="0", nullable=False),
    )
    op.add_column("segment_vectors", sa.Column("segment_id", sa.Uuid(), nullable=True))
    op.create_table(
        "vector_writes",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("dataset_id", sa.Uuid(), nullable=False),
        sa.Column("document_id", sa.Uuid(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("dimension", sa.Integer(), nullable=False),
        sa.Column("holder_id", sa.Uuid(), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("is_live", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("swept_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["document_id"],
            ["documents.id"],
            name=op.f("fk_vector_writes_document_id"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_vector_writes")),
    )
    op.create_index(op.f("ix_vector_writes_document_id"), "vector_writes", ["document_id"])
    op.create_index(
        "ix_vector_writes_unused",
        "vector_writes",
        ["swept_at"],
        postgresql_where=sa.text("NOT is_live OR document_id IS NULL"),
    )


def downgrade() -> None:
    op.drop_table("vector_writes")
    # What a later index holds is of no use without its columns.
    op.execute("DELETE FROM segment_vectors WHERE generation > 0")
    for column in ("segment_id", "generation"):
        op.drop_column("segment_vectors", column)
    op.drop_column("datasets", "index_generation")
