"""Documents and datasets are deleted: at once for search, their content by a worker afterwards.

The rows go in the caller's transaction, so whoever works on one loses its lease:
deletion wins. A trigger notes what they leave, and the message says who may delete it;
without the message the sweeper finds the note.
"""

from collections.abc import Sequence
from itertools import groupby
from uuid import UUID

from celery import Celery
from redis import Redis
from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.contract import BATCH_CLEAN_DOCUMENT, CLEAN_DATASET, CLEAN_DOCUMENT
from shared.errors import NotFound
from shared.queueing import guard, outbox
from shared.submitting.control import require_documents
from shared.submitting.ids import AnyId, checked_id

#: Documents a message.
_TOGETHER = 500

_DELETE = text("""
    DELETE FROM documents WHERE id IN (
        -- In order: two of these at once cannot deadlock.
        SELECT id FROM documents WHERE id = ANY(CAST(:ids AS uuid[])) ORDER BY id FOR UPDATE
    )
    RETURNING id, index_version, dataset_id, tenant_id
""")
_LOCK_DATASET = text("SELECT tenant_id FROM datasets WHERE id = :dataset_id FOR UPDATE")
_DELETE_ALL = text("""
    DELETE FROM documents WHERE id IN (
        SELECT id FROM documents WHERE dataset_id = :dataset_id ORDER BY id FOR UPDATE
    )
    RETURNING id, index_version
""")
_DELETE_DATASET = text("DELETE FROM datasets WHERE id = :dataset_id")
_NOTED = text("""
    UPDATE removals SET message_id = :message_id
    WHERE kind = 'document' AND document_id = ANY(CAST(:ids AS uuid[]))
""")
_NOTED_ALL = text("""
    UPDATE removals SET message_id = :message_id
    WHERE dataset_id = :dataset_id AND kind IN ('dataset', 'document')
""")


def delete_documents(
    session: Session,
    ids: Sequence[AnyId],
    *,
    celery: Celery | None = None,
    redis: "Redis | None" = None,
) -> list[UUID]:
    """Delete documents, in the caller's transaction; also those that are being indexed.

    Args:
        session: the caller's.
        ids: which documents.
        celery: publishes right after the commit; without it a worker's relay does.
        redis: frees their guards.

    Returns:
        Those that were deleted.

    Raises:
        InvalidRequest: an id is none.
        NotFound: one of them does not exist; nothing is deleted.
    """
    found = require_documents(session, ids)
    deleted = session.execute(_DELETE, {"ids": list(map(str, found))}).all()
    rows = sorted(deleted, key=lambda row: (str(row.dataset_id), str(row.id)))
    for (dataset_id, tenant_id), together in groupby(
        rows, key=lambda row: (row.dataset_id, row.tenant_id)
    ):
        gone = [str(row.id) for row in together]
        for start in range(0, len(gone), _TOGETHER):
            _send(session, dataset_id, tenant_id, gone[start : start + _TOGETHER], celery)
    if redis is not None:
        guard.release_all(redis, [(row.id, row.index_version) for row in deleted])
    return [row.id for row in deleted]


def delete_dataset(
    session: Session,
    dataset_id: AnyId,
    *,
    celery: Celery | None = None,
    redis: "Redis | None" = None,
) -> UUID:
    """Delete a dataset and its documents, in the caller's transaction.

    The transaction writes a row a document, none a segment.

    Args:
        session: the caller's.
        dataset_id: which dataset.
        celery: publishes right after the commit; without it a worker's relay does.
        redis: frees the documents' guards.

    Returns:
        The id of the message, and of the task, that deletes what they hold.

    Raises:
        InvalidRequest: the id is none.
        NotFound: there is no such dataset.
    """
    dataset_id = checked_id("dataset_id", dataset_id)
    # The lock orders it with submissions: none puts a document in behind it.
    tenant_id = session.scalar(_LOCK_DATASET, {"dataset_id": dataset_id})
    if tenant_id is None:
        raise NotFound(f"there is no dataset {dataset_id}")
    deleted = session.execute(_DELETE_ALL, {"dataset_id": dataset_id}).all()
    session.execute(_DELETE_DATASET, {"dataset_id": dataset_id})
    message_id = outbox.write(
        session, CLEAN_DATASET.name, [str(dataset_id)], celery=celery, tenant_id=tenant_id
    )
    session.execute(_NOTED_ALL, {"message_id": message_id, "dataset_id": dataset_id})
    if redis is not None:
        guard.release_all(redis, [(row.id, row.index_version) for row in deleted])
    return message_id


def _send(
    session: Session,
    dataset_id: UUID,
    tenant_id: UUID,
    documents: Sequence[str],
    celery: Celery | None,
) -> None:
    is_alone = len(documents) == 1
    task = CLEAN_DOCUMENT if is_alone else BATCH_CLEAN_DOCUMENT
    subject = documents[0] if is_alone else list(documents)
    message_id = outbox.write(
        session, task.name, [subject, str(dataset_id)], celery=celery, tenant_id=tenant_id
    )
    session.execute(_NOTED, {"message_id": message_id, "ids": list(documents)})
