"""Rules for whole queues, and what the schedule's runs did in all.

Revision: 0021, after 0020
"""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("task_switches", sa.Column("queue", sa.String(length=64), nullable=True))
    op.add_column(
        "scheduled_runs",
        sa.Column("total", sa.BigInteger(), server_default="0", nullable=False),
    )


def downgrade() -> None:
    op.drop_column("scheduled_runs", "total")
    # Without the column such a rule would hold everything.
    op.execute("DELETE FROM task_switches WHERE queue IS NOT NULL")
    op.drop_column("task_switches", "queue")
