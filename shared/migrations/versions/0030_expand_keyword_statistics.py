"""Frequent words of large datasets, so that a search need not count them.

Revision: 0030, after 0029
"""

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "keyword_totals",
        sa.Column("dataset_id", sa.Uuid(), nullable=False),
        sa.Column("with_keywords", sa.Integer(), nullable=False),
        sa.Column("without_keywords", sa.Integer(), nullable=False),
        sa.Column("segments", sa.BigInteger(), nullable=False),
        sa.Column("words", sa.BigInteger(), nullable=False),
        sa.Column("segments_then", sa.BigInteger(), nullable=False),
        sa.Column(
            "measured_at",
            sa.DateTime(timezone=True),
            server_default=sa.func.now(),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.id"],
            name=op.f("fk_keyword_totals_dataset_id_datasets"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("dataset_id", name=op.f("pk_keyword_totals")),
    )
    op.create_table(
        "frequent_words",
        sa.Column("dataset_id", sa.Uuid(), nullable=False),
        sa.Column("word", sa.BigInteger(), nullable=False),
        sa.Column("share", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.id"],
            name=op.f("fk_frequent_words_dataset_id_datasets"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("dataset_id", "word", name=op.f("pk_frequent_words")),
    )


def downgrade() -> None:
    op.drop_table("frequent_words")
    op.drop_table("keyword_totals")
