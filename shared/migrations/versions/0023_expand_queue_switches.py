"""Rules for whole queues, and what the schedule's runs did in all.

Revision: 0023, after 0022
"""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
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
