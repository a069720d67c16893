"""What is written of a document asks for that document, not for all there are.

Revision: 0029, after 0028
"""

from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

# A join of the documents with the written rows was planned for a thousand rows of unknown
# documents, and so read the whole table twice a statement. Whatever the statistics say: the
# plan outlives them.
_ONE_BY_ONE = """
    CREATE OR REPLACE FUNCTION require_documents() RETURNS trigger LANGUAGE plpgsql
    SET enable_seqscan = off AS $$
    DECLARE wanted uuid;
    BEGIN
        FOR wanted IN SELECT DISTINCT document_id FROM written ORDER BY document_id LOOP
            -- The lock a foreign key takes: a deletion waits for this, or this sees it.
            PERFORM 1 FROM documents WHERE id = wanted FOR KEY SHARE;
            IF NOT FOUND THEN
                RAISE foreign_key_violation USING
                    MESSAGE = format('%s: there is no document %s', TG_TABLE_NAME, wanted);
            END IF;
        END LOOP;
        RETURN NULL;
    END $$
"""
_ALL_AT_ONCE = """
    CREATE OR REPLACE FUNCTION require_documents() RETURNS trigger LANGUAGE plpgsql AS $$
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


def upgrade() -> None:
    op.execute(_ONE_BY_ONE)


def downgrade() -> None:
    op.execute(_ALL_AT_ONCE)
