"""A document waits again, in a new version."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.models import DocumentStatus

_RESTART = text("""
    UPDATE documents
    SET indexing_status = 'waiting', index_version = index_version + 1,
        error = NULL, is_paused = false, stopped_at = NULL, attempts = 0, deaths = 0,
        queued_at = statement_timestamp(),
        message_id = COALESCE(CAST(:message_id AS uuid), message_id),
        fingerprint = CASE WHEN :anew THEN NULL ELSE fingerprint END,
        -- A worker that has an earlier version writes nothing more.
        lease_token = lease_token + 1, lease_expires_at = NULL, lease_owner = NULL
    WHERE id IN (
        -- In order: two of these at once cannot deadlock.
        SELECT id FROM documents
        WHERE id = ANY(CAST(:ids AS uuid[])) AND indexing_status = ANY(:statuses)
          AND (CAST(:message_id AS uuid) IS NULL OR message_id IS DISTINCT FROM :message_id)
          AND (NOT :only_paused OR is_paused OR indexing_status = 'paused')
          AND (CAST(:dataset_id AS uuid) IS NULL OR dataset_id = :dataset_id)
        ORDER BY id FOR UPDATE
    )
    RETURNING id, index_version
""")


def restart(
    session: Session,
    ids: Sequence[UUID],
    statuses: Sequence[DocumentStatus],
    *,
    message_id: UUID | None = None,
    dataset_id: UUID | None = None,
    only_paused: bool = False,
    anew: bool = False,
) -> list[tuple[UUID, int]]:
    """Let documents wait in a new version, in the caller's transaction.

    Args:
        session: the caller's.
        ids: which documents.
        statuses: those in another status are left alone.
        message_id: the message that wants it; one that has restarted a document does
            not do so again. Kept in the row.
        dataset_id: those of another dataset are left alone.
        only_paused: so are those that nobody holds.
        anew: whether to make the version even if nothing has changed.

    Returns:
        Those that wait now, each with its version.
    """
    values = {
        "ids": list(map(str, ids)),
        "statuses": [status.value for status in statuses],
        "message_id": None if message_id is None else str(message_id),
        "only_paused": only_paused,
        "anew": anew,
        "dataset_id": None if dataset_id is None else str(dataset_id),
    }
    return [(row.id, row.index_version) for row in session.execute(_RESTART, values)]
