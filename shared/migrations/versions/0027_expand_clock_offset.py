"""How far a worker's clock is from the database's.

Revision: 0027, after 0026
"""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "worker_nodes",
        sa.Column("clock_offset_seconds", sa.Float(53), server_default="0", nullable=False),
    )


def downgrade() -> None:
    op.drop_column("worker_nodes", "clock_offset_seconds")
