"""The circuit breakers of trace configurations.

Revision: 0020, after 0019
"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def moment(name: str, **options: object) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), **options)


def upgrade() -> None:
    op.create_table(
        "trace_breakers",
        sa.Column("config_id", sa.Uuid(), nullable=False),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("openings", sa.Integer(), server_default="0", nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        moment("failing_since", server_default=sa.text("now()"), nullable=False),
        moment("open_until", nullable=True),
        moment("probe_until", nullable=True),
        sa.PrimaryKeyConstraint("config_id", name=op.f("pk_trace_breakers")),
        sa.ForeignKeyConstraint(
            ["config_id"],
            ["trace_configs.id"],
            name=op.f("fk_trace_breakers_config_id"),
            ondelete="CASCADE",
        ),
    )


def downgrade() -> None:
    op.drop_table("trace_breakers")
