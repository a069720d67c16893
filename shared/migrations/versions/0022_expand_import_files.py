"""The file of an import that goes with its document is noted, so that it leaves the storage.

Revision: 0022, after 0021
"""

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

NOTE_IMPORTS = """
    CREATE FUNCTION note_removed_segment_imports() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO removals (kind, tenant_id, dataset_id, upload_file_id)
        SELECT DISTINCT 'upload_file', tenant_id, dataset_id, upload_file_id FROM removed
        WHERE upload_file_id IS NOT NULL;
        RETURN NULL;
    END $$
"""


def upgrade() -> None:
    op.execute(NOTE_IMPORTS)
    op.execute("""
        CREATE TRIGGER note_removed AFTER DELETE ON segment_imports
        REFERENCING OLD TABLE AS removed FOR EACH STATEMENT
        EXECUTE FUNCTION note_removed_segment_imports()
    """)


def downgrade() -> None:
    op.execute("DROP TRIGGER note_removed ON segment_imports")
    op.execute("DROP FUNCTION note_removed_segment_imports()")
