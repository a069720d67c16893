"""Removals: deleting a document takes no lock on what it holds, that goes in batches afterwards.

Segments and vectors lose their cascading foreign keys. What those keys promised stays:
a statement's trigger refuses rows of a document that is not there, and the triggers of
documents and datasets note what a worker is to delete.

Revision: 0008, after 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

NOTED = ("documents", "datasets", "upload_files")
CONTENT = ("document_segments", "segment_vectors", "segment_keywords", "child_chunks")
CASCADING = ("document_segments", "segment_vectors", "child_chunks")

REQUIRE_DOCUMENTS = """
    CREATE FUNCTION require_documents() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE missing uuid;
    BEGIN
        -- The lock a foreign key takes: a deletion waits for this, or this sees it.
        PERFORM 1 FROM documents
        WHERE id IN (SELECT document_id FROM written) FOR KEY SHARE;
        SELECT found.document_id INTO missing
        FROM (SELECT DISTINCT document_id FROM written) AS found
        WHERE NOT EXISTS (SELECT 1 FROM documents WHERE id = found.document_id)
        LIMIT 1;
        IF FOUND THEN
            RAISE foreign_key_violation USING
                MESSAGE = format('%s: there is no document %s', TG_TABLE_NAME, missing);
        END IF;
        RETURN NULL;
    END $$
"""
NOTE_DOCUMENTS = """
    CREATE FUNCTION note_removed_documents() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO removals (kind, tenant_id, dataset_id, document_id, upload_file_id)
        SELECT 'document', tenant_id, dataset_id, id, upload_file_id FROM removed;
        RETURN NULL;
    END $$
"""
NOTE_DATASETS = """
    CREATE FUNCTION note_removed_datasets() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO removals (kind, tenant_id, dataset_id)
        SELECT 'dataset', tenant_id, id FROM removed;
        RETURN NULL;
    END $$
"""
NOTE_UPLOAD_FILES = """
    CREATE FUNCTION note_removed_upload_files() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO removals (kind, tenant_id, storage_key)
        SELECT DISTINCT 'stored_file', tenant_id, storage_key FROM removed;
        RETURN NULL;
    END $$
"""
NOTE_FILE = """
    CREATE FUNCTION note_replaced_file() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO removals (kind, tenant_id, dataset_id, upload_file_id)
        VALUES ('upload_file', OLD.tenant_id, OLD.dataset_id, OLD.upload_file_id);
        RETURN NULL;
    END $$
"""


def upgrade() -> None:
    op.create_table(
        "removals",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("dataset_id", sa.Uuid(), nullable=True),
        sa.Column("document_id", sa.Uuid(), nullable=True),
        sa.Column("upload_file_id", sa.Uuid(), nullable=True),
        sa.Column("storage_key", sa.String(length=512), nullable=True),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("message_id", sa.Uuid(), nullable=True),
        sa.Column(
            "due_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "kind IN ('document', 'dataset', 'upload_file', 'stored_file')",
            name=op.f("ck_removals_kind"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_removals")),
    )
    for column in ("document_id", "dataset_id", "due_at", "storage_key"):
        op.create_index(f"ix_removals_{column}", "removals", [column])
    op.create_index("ix_upload_files_storage_key", "upload_files", ["storage_key"])
    for function in (
        REQUIRE_DOCUMENTS,
        NOTE_DOCUMENTS,
        NOTE_DATASETS,
        NOTE_UPLOAD_FILES,
        NOTE_FILE,
    ):
        op.execute(function)
    for table in CASCADING:
        op.drop_constraint(f"fk_{table}_document_id", table, type_="foreignkey")
    for table in CONTENT:
        op.execute(f"""
            CREATE TRIGGER require_documents AFTER INSERT ON {table}
            REFERENCING NEW TABLE AS written FOR EACH STATEMENT
            EXECUTE FUNCTION require_documents()
        """)
    for table in NOTED:
        op.execute(f"""
            CREATE TRIGGER note_removed AFTER DELETE ON {table}
            REFERENCING OLD TABLE AS removed FOR EACH STATEMENT
            EXECUTE FUNCTION note_removed_{table}()
        """)
    op.execute("""
        CREATE TRIGGER note_replaced_file AFTER UPDATE OF upload_file_id ON documents
        FOR EACH ROW WHEN (
            OLD.upload_file_id IS NOT NULL
            AND OLD.upload_file_id IS DISTINCT FROM NEW.upload_file_id
        )
        EXECUTE FUNCTION note_replaced_file()
    """)


def downgrade() -> None:
    op.execute("DROP TRIGGER note_replaced_file ON documents")
    for table in NOTED:
        op.execute(f"DROP TRIGGER note_removed ON {table}")
    for table in CONTENT:
        op.execute(f"DROP TRIGGER require_documents ON {table}")
        # What nobody has cleaned up yet would break the key.
        op.execute(f"DELETE FROM {table} WHERE document_id NOT IN (SELECT id FROM documents)")
    for table in CASCADING:
        op.create_foreign_key(
            f"fk_{table}_document_id",
            table,
            "documents",
            ["document_id"],
            ["id"],
            ondelete="CASCADE",
        )
    for function in (
        "require_documents",
        "note_removed_documents",
        "note_removed_datasets",
        "note_removed_upload_files",
        "note_replaced_file",
    ):
        op.execute(f"DROP FUNCTION {function}()")
    op.drop_index("ix_upload_files_storage_key", "upload_files")
    op.drop_table("removals")
