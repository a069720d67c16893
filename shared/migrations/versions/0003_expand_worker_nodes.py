"""Worker nodes: their presence, for the probe that finds a wedged one.

Revision: 0003, after 0002
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def moment(name: str, **options: object) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), **options)


def upgrade() -> None:
    op.create_table(
        "worker_nodes",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("process_created", sa.Float(precision=53), nullable=False),
        sa.Column("pool", sa.String(length=64), nullable=False),
        sa.Column("concurrency", sa.Integer(), nullable=False),
        sa.Column("queues", postgresql.ARRAY(sa.Text()), nullable=False),
        moment("started_at", server_default=sa.text("now()"), nullable=False),
        moment("seen_at", server_default=sa.text("now()"), nullable=False),
        moment("last_consumed_at", nullable=True),
        sa.Column("busy", sa.Integer(), server_default="0", nullable=False),
        moment("unserved_since", nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_worker_nodes")),
    )


def downgrade() -> None:
    op.drop_table("worker_nodes")
