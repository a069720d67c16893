"""A document that is to be indexed again is so in a new version, whoever asks for it.

Who sets ``indexing_status`` by SQL alone would otherwise have a worker write into the
version that search sees.

Revision: 0011, after 0010
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE FUNCTION begin_new_version() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            NEW.index_version := NEW.index_version + 1;
            RETURN NEW;
        END $$
    """)
    op.execute("""
        CREATE TRIGGER begin_new_version BEFORE UPDATE OF indexing_status ON documents
        FOR EACH ROW WHEN (
            NEW.active_version = NEW.index_version
            AND NEW.indexing_status IN ('waiting', 'parsing', 'cleaning', 'splitting', 'indexing')
        )
        EXECUTE FUNCTION begin_new_version()
    """)


def downgrade() -> None:
    op.execute("DROP TRIGGER begin_new_version ON documents")
    op.execute("DROP FUNCTION begin_new_version()")
