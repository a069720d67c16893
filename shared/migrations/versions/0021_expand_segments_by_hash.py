"""A re-index finds unchanged segments by an index: it read the whole version for each batch.

Revision: 0021, after 0020
"""

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_document_segments_document_id_version_index_node_hash",
        "document_segments",
        ["document_id", "version", "index_node_hash"],
    )


def downgrade() -> None:
    op.drop_index(
        "ix_document_segments_document_id_version_index_node_hash", table_name="document_segments"
    )
