"""Traces: where they go, and their deliveries.

A delivery that goes notes the file of its payload in ``removals``, whoever deletes it.

Revision: 0016, after 0015
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

UNFINISHED = "status IN ('waiting', 'sending')"
ENDED = "status NOT IN ('waiting', 'sending')"
NOTE = """
    CREATE FUNCTION note_removed_trace_deliveries() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO removals (kind, tenant_id, storage_key)
        SELECT 'stored_file', tenant_id, storage_key FROM removed WHERE storage_key IS NOT NULL;
        RETURN NULL;
    END $$
"""


def moment(name: str, **options: object) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), **options)


def number(name: str, default: str | None = "0", kind: type = sa.Integer) -> sa.Column:
    return sa.Column(name, kind(), server_default=default, nullable=False)


def row(table: str) -> list[sa.Column | sa.Constraint]:
    return [
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("app_id", sa.String(length=256), nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        moment("created_at", server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f(f"fk_{table}_tenant_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
    ]


def upgrade() -> None:
    op.create_table(
        "trace_configs",
        *row("trace_configs"),
        sa.Column("provider", sa.String(length=16), nullable=False),
        sa.Column("endpoint", sa.String(length=2048), nullable=True),
        sa.Column("secrets", sa.Text(), nullable=True),
        sa.Column("options", postgresql.JSONB(), nullable=False),
        number("version", "1"),
        sa.Column("is_enabled", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        moment("updated_at", server_default=sa.text("now()"), nullable=False),
        sa.UniqueConstraint(
            "tenant_id",
            "app_id",
            "provider",
            name=op.f("uq_trace_configs_tenant_id_app_id_provider"),
            postgresql_nulls_not_distinct=True,
        ),
    )
    op.create_table(
        "trace_deliveries",
        *row("trace_deliveries"),
        sa.Column("trace_id", sa.String(length=32), nullable=False),
        number("part"),
        sa.Column("name", sa.String(length=512), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("config_id", sa.Uuid(), nullable=True),
        sa.Column("config_version", sa.Integer(), nullable=True),
        sa.Column("provider", sa.String(length=16), nullable=True),
        sa.Column("status", sa.String(length=16), server_default="waiting", nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=True),
        sa.Column("storage_key", sa.String(length=512), nullable=True),
        number("payload_bytes", None),
        number("schema_version", "1", sa.SmallInteger),
        number("span_count", None),
        number("sent_spans"),
        number("rejected_spans"),
        sa.Column("rejections", postgresql.JSONB(), server_default="[]", nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("provider_words", sa.Text(), nullable=True),
        sa.Column("message_id", sa.Uuid(), nullable=True),
        moment("queued_at", server_default=sa.text("now()"), nullable=False),
        moment("due_at", nullable=True),
        moment("handed_over_at", nullable=True),
        moment("ended_at", nullable=True),
        number("lease_token", "0", sa.BigInteger),
        moment("lease_expires_at", nullable=True),
        sa.Column("lease_owner", sa.String(length=255), nullable=True),
        number("attempts"),
        number("deaths"),
        sa.CheckConstraint(
            "status IN ('waiting', 'sending', 'delivered', 'partial', 'failed', 'cancelled', "
            "'disabled')",
            name=op.f("ck_trace_deliveries_status"),
        ),
    )
    for name, columns, condition in (
        ("tenant", ["tenant_id", "created_at"], None),
        ("trace", ["trace_id"], None),
        ("config", ["config_id", "queued_at"], UNFINISHED),
        ("unfinished", ["status", "lease_expires_at"], UNFINISHED),
        ("ended", ["status", "ended_at"], ENDED),
        ("large", ["payload_bytes"], f"storage_key IS NULL AND {ENDED}"),
    ):
        op.create_index(
            f"ix_trace_deliveries_{name}",
            "trace_deliveries",
            columns,
            postgresql_where=sa.text(condition) if condition else None,
        )
    op.execute(NOTE)
    op.execute("""
        CREATE TRIGGER note_removed AFTER DELETE ON trace_deliveries
        REFERENCING OLD TABLE AS removed FOR EACH STATEMENT
        EXECUTE FUNCTION note_removed_trace_deliveries()
    """)


def downgrade() -> None:
    op.drop_table("trace_deliveries")
    op.execute("DROP FUNCTION note_removed_trace_deliveries()")
    op.drop_table("trace_configs")
