"""Keywords: the words of segments, and how many a document has.

Revision: 0004, after 0003
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "segment_keywords",
        sa.Column("segment_id", sa.Uuid(), nullable=False),
        sa.Column("dataset_id", sa.Uuid(), nullable=False),
        sa.Column("document_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("words", postgresql.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("frequencies", postgresql.ARRAY(sa.SmallInteger()), nullable=False),
        sa.Column("length", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("segment_id", name=op.f("pk_segment_keywords")),
    )
    op.create_index(
        "ix_segment_keywords_document_id_version", "segment_keywords", ["document_id", "version"]
    )
    op.create_index(
        "ix_segment_keywords_words", "segment_keywords", ["words"], postgresql_using="gin"
    )
    op.create_index(
        "ix_document_segments_disabled",
        "document_segments",
        ["dataset_id", "id"],
        postgresql_where=sa.text("NOT enabled"),
    )
    op.add_column("documents", sa.Column("keyword_segments", sa.Integer(), nullable=True))
    op.add_column("documents", sa.Column("keyword_words", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("documents", "keyword_words")
    op.drop_column("documents", "keyword_segments")
    op.drop_index("ix_document_segments_disabled", "document_segments")
    op.drop_table("segment_keywords")
