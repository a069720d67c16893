"""The whole schema as PostgreSQL has it at its revision 0030, less what only pgvector needs.

Neither database takes DDL back: each step may be repeated, so that an upgrade that died goes on
where it was. Both fire triggers row by row, and none for rows that a foreign key's cascade
removes: where such a row must leave a note, its parent's trigger deletes it first.

Revision: 0030, the first
"""

import re
from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = None
branch_labels = None
depends_on = None

CREATE = "CREATE TABLE IF NOT EXISTS "
TABLES = Path(__file__).parent.parent / "0030_tables.sql"

#: Their rows belong to a document without a foreign key: a removal takes them in batches.
CONTENT = ("document_segments", "segment_keywords", "child_chunks")

# The lock a foreign key takes: a deletion waits for this, or this sees it.
REQUIRE_DOCUMENT = """
    CREATE TRIGGER {table}_require_document BEFORE INSERT ON {table} FOR EACH ROW
    BEGIN
        DECLARE reason VARCHAR(128);
        IF NOT EXISTS (
            SELECT 1 FROM documents WHERE id = NEW.document_id LOCK IN SHARE MODE
        ) THEN
            SET reason = CONCAT('{table}: there is no document ', NEW.document_id);
            SIGNAL SQLSTATE '23000' SET MYSQL_ERRNO = 1452, MESSAGE_TEXT = reason;
        END IF;
    END
"""

TRIGGERS = {
    "tenants_remove_children": """
        CREATE TRIGGER tenants_remove_children BEFORE DELETE ON tenants FOR EACH ROW
        BEGIN
            DELETE FROM documents WHERE tenant_id = OLD.id;
            DELETE FROM datasets WHERE tenant_id = OLD.id;
            DELETE FROM upload_files WHERE tenant_id = OLD.id;
            DELETE FROM trace_deliveries WHERE tenant_id = OLD.id;
        END
    """,
    "datasets_remove_children": """
        CREATE TRIGGER datasets_remove_children BEFORE DELETE ON datasets FOR EACH ROW
            DELETE FROM documents WHERE dataset_id = OLD.id
    """,
    "documents_remove_children": """
        CREATE TRIGGER documents_remove_children BEFORE DELETE ON documents FOR EACH ROW
            DELETE FROM segment_imports WHERE document_id = OLD.id
    """,
    "datasets_note_removed": """
        CREATE TRIGGER datasets_note_removed AFTER DELETE ON datasets FOR EACH ROW
            INSERT INTO removals (kind, tenant_id, dataset_id)
            VALUES ('dataset', OLD.tenant_id, OLD.id)
    """,
    "documents_note_removed": """
        CREATE TRIGGER documents_note_removed AFTER DELETE ON documents FOR EACH ROW
            INSERT INTO removals (kind, tenant_id, dataset_id, document_id, upload_file_id)
            VALUES ('document', OLD.tenant_id, OLD.dataset_id, OLD.id, OLD.upload_file_id)
    """,
    "upload_files_note_removed": """
        CREATE TRIGGER upload_files_note_removed AFTER DELETE ON upload_files FOR EACH ROW
            INSERT INTO removals (kind, tenant_id, storage_key)
            VALUES ('stored_file', OLD.tenant_id, OLD.storage_key)
    """,
    "trace_deliveries_note_removed": """
        CREATE TRIGGER trace_deliveries_note_removed AFTER DELETE ON trace_deliveries FOR EACH ROW
        BEGIN
            IF OLD.storage_key IS NOT NULL THEN
                INSERT INTO removals (kind, tenant_id, storage_key)
                VALUES ('stored_file', OLD.tenant_id, OLD.storage_key);
            END IF;
        END
    """,
    "segment_imports_note_removed": """
        CREATE TRIGGER segment_imports_note_removed AFTER DELETE ON segment_imports FOR EACH ROW
        BEGIN
            IF OLD.upload_file_id IS NOT NULL THEN
                INSERT INTO removals (kind, tenant_id, dataset_id, upload_file_id)
                VALUES ('upload_file', OLD.tenant_id, OLD.dataset_id, OLD.upload_file_id);
            END IF;
        END
    """,
    "documents_note_replaced_file": """
        CREATE TRIGGER documents_note_replaced_file AFTER UPDATE ON documents FOR EACH ROW
        BEGIN
            IF OLD.upload_file_id IS NOT NULL
                AND NOT (OLD.upload_file_id <=> NEW.upload_file_id)
            THEN
                INSERT INTO removals (kind, tenant_id, dataset_id, upload_file_id)
                VALUES ('upload_file', OLD.tenant_id, OLD.dataset_id, OLD.upload_file_id);
            END IF;
        END
    """,
    # A version that search sees is never written into, whoever sets the status.
    "documents_begin_new_version": """
        CREATE TRIGGER documents_begin_new_version BEFORE UPDATE ON documents FOR EACH ROW
        BEGIN
            IF NEW.active_version = NEW.index_version
                AND NEW.indexing_status IN
                    ('waiting', 'parsing', 'cleaning', 'splitting', 'indexing')
                AND NOT (NEW.indexing_status <=> OLD.indexing_status)
            THEN
                SET NEW.index_version = NEW.index_version + 1;
            END IF;
        END
    """,
    **{f"{table}_require_document": REQUIRE_DOCUMENT.format(table=table) for table in CONTENT},
}

#: Tables of whose rows an INSERT returns those that it wrote: MySQL has no RETURNING, and
#: MariaDB's tells rows that it left as they were, too. See ``shared.mysql.writing``.
TOLD = {
    "dead_letters": ("id",),
    "generation_works": ("id",),
    "index_build_documents": ("id",),
    "keyword_totals": ("dataset_id",),
    "passage_pairs": ("document_id", "passage_hash"),
    "segment_edits": ("id",),
    "task_switches": ("id",),
    "trace_breakers": ("config_id",),
    "worker_nodes": ("name",),
}


def telling(table: str, key: tuple[str, ...]) -> dict[str, str]:
    """Triggers that tell a session which rows were written, if it asks: it is NULL otherwise."""
    words = next(one for one in statements() if one.startswith(f"{CREATE}{table} ("))
    names = re.findall(r"^    ([a-z]\w*) [A-Z]", words, re.MULTILINE)
    is_same = " AND ".join(f"OLD.{name} <=> NEW.{name}" for name in names)
    row = ", ':', ".join(f"HEX(NEW.{name})" for name in key)
    return {
        f"{table}_tell_inserted": f"""
            CREATE TRIGGER {table}_tell_inserted AFTER INSERT ON {table} FOR EACH ROW
                SET @written_rows = CONCAT(@written_rows, ' +', {row})
        """,
        f"{table}_tell_updated": f"""
            CREATE TRIGGER {table}_tell_updated AFTER UPDATE ON {table} FOR EACH ROW
                SET @written_rows = CONCAT(@written_rows, IF({is_same}, ' =', ' +'), {row})
        """,
    }


def statements() -> list[str]:
    lines = TABLES.read_text().splitlines()
    words = "\n".join(line for line in lines if not line.startswith("--"))
    return [statement.strip() for statement in words.split(";") if statement.strip()]


def run(statement: str) -> None:
    # Not as text: that is taken for PostgreSQL's and translated.
    op.execute(sa.DDL(statement))


def upgrade() -> None:
    for statement in statements():
        run(statement)
    told = [telling(table, key) for table, key in TOLD.items()]
    triggers = TRIGGERS | {name: words for one in told for name, words in one.items()}
    for name, trigger in triggers.items():
        run(f"DROP TRIGGER IF EXISTS {name}")
        run(trigger)


def downgrade() -> None:
    tables = [statement.split("(", 1)[0].split()[-1] for statement in statements()]
    for table in reversed(tables):
        run(f"DROP TABLE IF EXISTS {table}")
