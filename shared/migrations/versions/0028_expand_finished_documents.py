"""Finished documents are counted by an index: the metrics must not read the table.

Revision: 0028, after 0027
"""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_documents_finished",
        "documents",
        ["indexing_status"],
        postgresql_where=sa.text("indexing_status IN ('completed', 'error', 'paused')"),
    )


def downgrade() -> None:
    op.drop_index("ix_documents_finished", table_name="documents")
