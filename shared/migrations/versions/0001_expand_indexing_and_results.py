"""The tables of indexing, and Celery's result tables.

Revision: 0001, the first
"""

import sqlalchemy as sa
from alembic import op
from shared.models.vector import Vector
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

RESULT_SEQUENCES = (sa.Sequence("task_id_sequence"), sa.Sequence("taskset_id_sequence"))


def upgrade() -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS vector")
    # Celery's models draw their ids from these by name.
    for sequence in RESULT_SEQUENCES:
        op.execute(sa.schema.CreateSequence(sequence))
    op.create_table(
        "accounts",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("email", sa.String(length=320), nullable=False),
        sa.Column("language", sa.String(length=16), server_default="en-US", nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
        sa.UniqueConstraint("email", name=op.f("uq_accounts_email")),
    )
    op.create_table(
        "tenants",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tenants")),
        sa.UniqueConstraint("name", name=op.f("uq_tenants_name")),
    )
    op.create_table(
        "datasets",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column(
            "indexing_technique",
            sa.String(length=16),
            server_default="high_quality",
            nullable=False,
        ),
        sa.Column("doc_form", sa.String(length=32), server_default="text_model", nullable=False),
        sa.Column("embedding_provider", sa.String(length=64), nullable=False),
        sa.Column("embedding_model", sa.String(length=255), nullable=False),
        sa.Column("embedding_dimension", sa.Integer(), nullable=True),
        sa.Column("retrieval_model", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "doc_form IN ('text_model', 'hierarchical_model', 'qa_model')",
            name=op.f("ck_datasets_doc_form"),
        ),
        sa.CheckConstraint(
            "indexing_technique IN ('high_quality', 'economy')", name=op.f("ck_datasets_technique")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("fk_datasets_tenant_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_datasets")),
        sa.UniqueConstraint("tenant_id", "name", name=op.f("uq_datasets_tenant_id_name")),
    )
    op.create_table(
        "tenant_account_joins",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("invited_by", sa.Uuid(), nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "role IN ('owner', 'admin', 'editor', 'normal')",
            name=op.f("ck_tenant_account_joins_role"),
        ),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["accounts.id"],
            name=op.f("fk_tenant_account_joins_account_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["tenants.id"],
            name=op.f("fk_tenant_account_joins_tenant_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tenant_account_joins")),
        sa.UniqueConstraint(
            "tenant_id", "account_id", name=op.f("uq_tenant_account_joins_tenant_id_account_id")
        ),
    )
    op.create_index(
        op.f("ix_tenant_account_joins_account_id"),
        "tenant_account_joins",
        ["account_id"],
        unique=False,
    )
    op.create_table(
        "upload_files",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("storage_key", sa.String(length=512), nullable=False),
        sa.Column("name", sa.String(length=512), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("mime_type", sa.String(length=255), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["tenants.id"],
            name=op.f("fk_upload_files_tenant_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_upload_files")),
        sa.UniqueConstraint(
            "tenant_id", "sha256", "name", name=op.f("uq_upload_files_tenant_id_sha256_name")
        ),
    )
    op.create_table(
        "dataset_process_rules",
        sa.Column("dataset_id", sa.Uuid(), nullable=False),
        sa.Column("mode", sa.String(length=16), server_default="automatic", nullable=False),
        sa.Column("rules", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "mode IN ('automatic', 'custom', 'hierarchical')",
            name=op.f("ck_dataset_process_rules_mode"),
        ),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.id"],
            name=op.f("fk_dataset_process_rules_dataset_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dataset_process_rules")),
    )
    op.create_index(
        op.f("ix_dataset_process_rules_dataset_id"),
        "dataset_process_rules",
        ["dataset_id"],
        unique=False,
    )
    op.create_table(
        "documents",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("dataset_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=512), nullable=False),
        sa.Column("data_source", sa.String(length=16), nullable=False),
        sa.Column("source_key", sa.String(length=1024), nullable=False),
        sa.Column("upload_file_id", sa.Uuid(), nullable=True),
        sa.Column("process_rule_id", sa.Uuid(), nullable=True),
        sa.Column("doc_form", sa.String(length=32), nullable=False),
        sa.Column("doc_metadata", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "indexing_status", sa.String(length=16), server_default="waiting", nullable=False
        ),
        sa.Column("index_version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("active_version", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("processing_started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("parsing_completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cleaning_completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("splitting_completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("stopped_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("indexing_latency", sa.Double(), nullable=True),
        sa.Column("word_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("total_segments", sa.Integer(), server_default="0", nullable=False),
        sa.Column("completed_segments", sa.Integer(), server_default="0", nullable=False),
        sa.Column("enabled", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("archived", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("is_paused", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("lease_token", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "data_source IN ('upload_file', 'text', 'url')", name=op.f("ck_documents_data_source")
        ),
        sa.CheckConstraint(
            "indexing_status IN ('waiting', 'parsing', 'cleaning', 'splitting', 'indexing', 'completed', 'error', 'paused')",
            name=op.f("ck_documents_indexing_status"),
        ),
        sa.CheckConstraint(
            "active_version <= index_version", name=op.f("ck_documents_active_version")
        ),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.id"],
            name=op.f("fk_documents_dataset_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["process_rule_id"],
            ["dataset_process_rules.id"],
            name=op.f("fk_documents_process_rule_id"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("fk_documents_tenant_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["upload_file_id"],
            ["upload_files.id"],
            name=op.f("fk_documents_upload_file_id"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_documents")),
        sa.UniqueConstraint(
            "dataset_id", "position", name=op.f("uq_documents_dataset_id_position")
        ),
    )
    op.create_index(
        "ix_documents_dataset_id_source_key", "documents", ["dataset_id", "source_key"], unique=True
    )
    op.create_index(
        op.f("ix_documents_process_rule_id"), "documents", ["process_rule_id"], unique=False
    )
    op.create_index(op.f("ix_documents_tenant_id"), "documents", ["tenant_id"], unique=False)
    op.create_index(
        "ix_documents_unfinished",
        "documents",
        ["indexing_status", "lease_expires_at"],
        unique=False,
        postgresql_where=sa.text("indexing_status NOT IN ('completed', 'error', 'paused')"),
    )
    op.create_index(
        op.f("ix_documents_upload_file_id"), "documents", ["upload_file_id"], unique=False
    )
    op.create_table(
        "document_segments",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("dataset_id", sa.Uuid(), nullable=False),
        sa.Column("document_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("keywords", postgresql.ARRAY(sa.Text()), nullable=True),
        sa.Column("word_count", sa.Integer(), nullable=False),
        sa.Column("tokens", sa.Integer(), nullable=False),
        sa.Column("index_node_hash", sa.String(length=64), nullable=False),
        sa.Column("page", sa.Integer(), nullable=True),
        sa.Column("status", sa.String(length=16), server_default="completed", nullable=False),
        sa.Column("enabled", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "status IN ('waiting', 'indexing', 'completed', 'error')",
            name=op.f("ck_document_segments_status"),
        ),
        sa.ForeignKeyConstraint(
            ["document_id"],
            ["documents.id"],
            name=op.f("fk_document_segments_document_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_document_segments")),
        sa.UniqueConstraint(
            "document_id",
            "version",
            "position",
            name=op.f("uq_document_segments_document_id_version_position"),
        ),
    )
    op.create_table(
        "segment_vectors",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("dataset_id", sa.Uuid(), nullable=False),
        sa.Column("document_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("embedding", Vector(), nullable=False),
        sa.ForeignKeyConstraint(
            ["document_id"],
            ["documents.id"],
            name=op.f("fk_segment_vectors_document_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_segment_vectors")),
    )
    op.create_index(
        "ix_segment_vectors_document_id_version",
        "segment_vectors",
        ["document_id", "version"],
        unique=False,
    )
    op.create_table(
        "celery_taskmeta",
        # Celery says Integer; an id is drawn for every stored result, so it would run out.
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("task_id", sa.String(length=155), nullable=True),
        sa.Column("status", sa.String(length=50), nullable=True),
        sa.Column("result", sa.LargeBinary(), nullable=True),
        sa.Column("date_done", sa.DateTime(), nullable=True),
        sa.Column("traceback", sa.Text(), nullable=True),
        sa.Column("children", sa.LargeBinary(), nullable=True),
        sa.Column("name", sa.String(length=155), nullable=True),
        sa.Column("args", sa.LargeBinary(), nullable=True),
        sa.Column("kwargs", sa.LargeBinary(), nullable=True),
        sa.Column("worker", sa.String(length=155), nullable=True),
        sa.Column("retries", sa.Integer(), nullable=True),
        sa.Column("queue", sa.String(length=155), nullable=True),
        sa.Column("stamps", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("task_id"),
    )
    op.create_index(
        op.f("ix_celery_taskmeta_date_done"), "celery_taskmeta", ["date_done"], unique=False
    )
    op.create_table(
        "celery_tasksetmeta",
        # Celery says Integer; an id is drawn for every stored result, so it would run out.
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("taskset_id", sa.String(length=155), nullable=True),
        sa.Column("result", sa.LargeBinary(), nullable=True),
        sa.Column("date_done", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("taskset_id"),
    )
    op.create_index(
        op.f("ix_celery_tasksetmeta_date_done"), "celery_tasksetmeta", ["date_done"], unique=False
    )


def downgrade() -> None:
    for table in (
        "celery_tasksetmeta",
        "celery_taskmeta",
        "segment_vectors",
        "document_segments",
        "documents",
        "dataset_process_rules",
        "upload_files",
        "tenant_account_joins",
        "datasets",
        "tenants",
        "accounts",
    ):
        op.drop_table(table)
    for sequence in RESULT_SEQUENCES:
        op.execute(sa.schema.DropSequence(sequence))
    # The extension stays: other schemas of this database may use it.
