"""Vectors in an external store that are told apart one by one: segments changed by hand.

Revision: 0017, after 0016
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "vector_writes",
        sa.Column("is_whole", sa.Boolean(), server_default=sa.text("true"), nullable=False),
    )
    op.create_table(
        "vector_points",
        sa.Column("vector_id", sa.Uuid(), nullable=False),
        sa.Column("write_id", sa.Uuid(), nullable=False),
        sa.Column("is_current", sa.Boolean(), nullable=False),
        sa.Column("swept_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["write_id"],
            ["vector_writes.id"],
            name=op.f("fk_vector_points_write_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("vector_id", "write_id", name=op.f("pk_vector_points")),
    )
    op.create_index(op.f("ix_vector_points_write_id"), "vector_points", ["write_id"])
    op.create_index(
        "ix_vector_points_unused",
        "vector_points",
        ["swept_at"],
        postgresql_where=sa.text("NOT is_current"),
    )


def downgrade() -> None:
    op.drop_table("vector_points")
    # Whoever knows nothing of points would take each for the whole of a version.
    op.execute("UPDATE vector_writes SET is_live = false WHERE NOT is_whole")
    op.drop_column("vector_writes", "is_whole")
