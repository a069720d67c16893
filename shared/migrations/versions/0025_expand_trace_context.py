"""Messages keep the trace of whoever sent them, however late they are published.

Revision: 0025, after 0024
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("outbox", "dead_letters"):
        op.add_column(table, sa.Column("headers", postgresql.JSONB(), nullable=True))


def downgrade() -> None:
    for table in ("outbox", "dead_letters"):
        op.drop_column(table, "headers")
