"""People, the use of datasets, and the runs of the schedule.

Revision: 0015, after 0014
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

ROLES = "'owner', 'admin', 'editor', 'normal'"


def moment(name: str, **options: object) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), **options)


def now(name: str) -> sa.Column:
    return moment(name, server_default=sa.text("now()"), nullable=False)


def flag(name: str) -> sa.Column:
    return sa.Column(name, sa.Boolean(), server_default=sa.text("false"), nullable=False)


def number(name: str) -> sa.Column:
    return sa.Column(name, sa.Integer(), server_default="0", nullable=False)


def roles(allowed: str) -> None:
    name = op.f("ck_tenant_account_joins_role")
    op.drop_constraint(name, "tenant_account_joins", type_="check")
    op.create_check_constraint(name, "tenant_account_joins", f"role IN ({allowed})")


def of(table: str) -> sa.ForeignKeyConstraint:
    column = f"{table.removesuffix('s')}_id"
    name = op.f(f"fk_dataset_auto_disable_logs_{column}")
    return sa.ForeignKeyConstraint([column], [f"{table}.id"], name=name, ondelete="CASCADE")


def upgrade() -> None:
    op.add_column("accounts", sa.Column("password_hash", sa.String(length=255), nullable=True))
    op.add_column(
        "accounts",
        sa.Column("status", sa.String(length=16), server_default="active", nullable=False),
    )
    op.add_column("accounts", now("updated_at"))
    op.create_check_constraint(
        op.f("ck_accounts_status"),
        "accounts",
        "status IN ('pending', 'uninitialized', 'active', 'banned', 'closed')",
    )
    op.create_index("uq_accounts_lower_email", "accounts", [sa.text("lower(email)")], unique=True)
    op.add_column("tenant_account_joins", flag("current"))
    roles(f"{ROLES}, 'dataset_operator'")

    # Datasets that are there count as searched today: none is unused at once.
    op.add_column("datasets", now("last_searched_at"))
    op.create_index("ix_datasets_last_searched_at", "datasets", ["last_searched_at"])
    op.add_column("documents", moment("changed_at", nullable=True))
    op.create_table(
        "dataset_auto_disable_logs",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("dataset_id", sa.Uuid(), nullable=False),
        sa.Column("document_id", sa.Uuid(), nullable=False),
        flag("notified"),
        sa.Column("id", sa.Uuid(), nullable=False),
        now("created_at"),
        of("tenants"),
        of("datasets"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dataset_auto_disable_logs")),
    )
    for column in ("tenant_id", "dataset_id", "created_at"):
        name = op.f(f"ix_dataset_auto_disable_logs_{column}")
        op.create_index(name, "dataset_auto_disable_logs", [column])
    op.create_index(
        "ix_dataset_auto_disable_logs_unnotified",
        "dataset_auto_disable_logs",
        ["tenant_id", "created_at"],
        postgresql_where=sa.text("NOT notified"),
    )

    op.create_table(
        "scheduled_runs",
        sa.Column("name", sa.String(length=255), nullable=False),
        moment("started_at", nullable=True),
        moment("ended_at", nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("report", sa.Text(), nullable=True),
        sa.Column("position", sa.Text(), nullable=True),
        sa.Column("lease_token", sa.BigInteger(), server_default="0", nullable=False),
        moment("lease_expires_at", nullable=True),
        sa.Column("lease_owner", sa.String(length=255), nullable=True),
        number("attempts"),
        number("deaths"),
        sa.Column("id", sa.Uuid(), nullable=False),
        now("created_at"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_scheduled_runs")),
        sa.UniqueConstraint("name", name=op.f("uq_scheduled_runs_name")),
    )


def downgrade() -> None:
    op.drop_table("scheduled_runs")
    op.drop_table("dataset_auto_disable_logs")
    op.drop_column("documents", "changed_at")
    op.drop_column("datasets", "last_searched_at")
    op.execute("UPDATE tenant_account_joins SET role = 'normal' WHERE role = 'dataset_operator'")
    roles(ROLES)
    op.drop_column("tenant_account_joins", "current")
    op.drop_index("uq_accounts_lower_email", table_name="accounts")
    for column in ("updated_at", "status", "password_hash"):
        op.drop_column("accounts", column)
