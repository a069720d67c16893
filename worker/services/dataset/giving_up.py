"""Documents whose message was given up, and those that are to be tried again all the same."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.submitting.files import storable
from worker.delivery.lease import owner
from worker.services.dataset import segments
from worker.services.dataset.needs import IndexingNeeds

_END = text("""
    UPDATE documents
    SET indexing_status = 'error', error = :reason, stopped_at = statement_timestamp(),
        attempts = 0, deaths = 0,
        lease_token = lease_token + 1, lease_expires_at = NULL, lease_owner = NULL
    WHERE id = ANY(CAST(:ids AS uuid[])) AND dataset_id = :dataset_id
      AND indexing_status NOT IN ('completed', 'error', 'paused')
      AND (NOT :only_ours OR lease_owner = :owner)
      AND (lease_expires_at IS NULL OR lease_expires_at < now() OR lease_owner = :owner)
    RETURNING id, index_version, active_version
""")
_RECOUNT = text("""
    UPDATE documents SET total_segments = counted.number, completed_segments = counted.completed
    FROM (
        SELECT count(*) AS number, count(*) FILTER (WHERE status = 'completed') AS completed
        FROM document_segments WHERE document_id = :id
    ) AS counted
    WHERE id = :id
""")
_REVIVE = text("""
    UPDATE documents
    SET indexing_status = 'waiting', error = NULL, stopped_at = NULL, attempts = 0, deaths = 0,
        queued_at = statement_timestamp()
    WHERE id = ANY(CAST(:ids AS uuid[])) AND dataset_id = :dataset_id
      AND indexing_status = 'error'
""")
# Only those whose own message is gone: what another one is about to do stays its own.
_ADOPT = text("""
    UPDATE documents SET message_id = :message_id
    WHERE id = ANY(CAST(:ids AS uuid[])) AND dataset_id = :dataset_id
      AND indexing_status = 'waiting'
      AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.id = documents.message_id)
""")
_OURS = text("""
    SELECT 1 FROM documents WHERE id = ANY(CAST(:ids AS uuid[])) AND lease_owner = :owner LIMIT 1
""")


def give_up_documents(
    dataset_id: UUID, documents: Sequence[UUID], needs: IndexingNeeds, reason: str
) -> None:
    """End documents as ``error``: all of a message, or the one that this process is stuck in.

    What was written of the version goes; a worker that still has one of them
    writes nothing more. Those that somebody else works on are left alone.
    """
    values = {"ids": list(map(str, documents)), "owner": owner()}
    with needs.sessions.begin() as session:
        only_ours = session.execute(_OURS, values).one_or_none() is not None
        ended = session.execute(
            _END,
            {
                **values,
                "dataset_id": dataset_id,
                "reason": storable(reason),
                "only_ours": only_ours,
            },
        ).all()
        for row in ended:
            needs.vectors.delete_other_versions(session, row.id, row.active_version)
            segments.delete_other_versions(session, row.id, row.active_version)
            session.execute(_RECOUNT, {"id": row.id})
    for row in ended:
        needs.guard.release(row.id, row.index_version)
        needs.progress.publish(row.id, status="error", error=reason)


def revive_documents(session: Session, dataset_id: UUID, documents: Sequence[UUID]) -> None:
    """Let documents that ended as ``error`` wait again, in the caller's transaction."""
    session.execute(_REVIVE, {"ids": list(map(str, documents)), "dataset_id": dataset_id})


def adopt_documents(
    session: Session, dataset_id: UUID, documents: Sequence[UUID], message_id: UUID
) -> None:
    """Say in documents that wait, and whose message is gone, which message is theirs now."""
    values = {"message_id": str(message_id), "dataset_id": dataset_id}
    session.execute(_ADOPT, {**values, "ids": list(map(str, documents))})
