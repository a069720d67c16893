"""A document was shown to search or hidden from it: what is left to do when the row says so.

Nothing is moved. Search goes by the row inside its query, with vectors in PostgreSQL as
well as in another store, so that a document shown again needs no embedding.
"""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from shared.errors import SubjectGone
from worker.services.dataset.needs import Progress

#: A producer that sets the flag alone has not said since when.
_FOLLOW = text("""
    UPDATE documents
    SET disabled_at = CASE
        WHEN enabled THEN NULL ELSE COALESCE(disabled_at, statement_timestamp())
    END
    WHERE id = :id
    RETURNING enabled, archived
""")


def follow_flags(document_id: UUID, sessions: sessionmaker[Session], progress: Progress) -> bool:
    """Bring along what depends on a document's flags; delivered twice or late it is the same.

    Returns:
        Whether search may see it.

    Raises:
        SubjectGone: (superseded) the document was deleted.
    """
    with sessions.begin() as session:
        row = session.execute(_FOLLOW, {"id": document_id}).one_or_none()
    if row is None:
        raise SubjectGone(f"there is no document {document_id} (any more)")
    progress.publish(document_id, enabled=row.enabled, archived=row.archived)
    return bool(row.enabled and not row.archived)
