"""Documents are indexed again: after an error, with a new file or rule, or just as they are.

Each becomes a new version beside the one that serves, which goes on serving until the new
one is whole. A worker that has an earlier version loses its lease.
"""

from collections.abc import Sequence
from itertools import groupby
from uuid import UUID

from celery import Celery
from redis import Redis
from sqlalchemy import Row, select, text, update
from sqlalchemy.orm import Session

from shared.contract import (
    DOCUMENT_INDEXING_UPDATE,
    DUPLICATE_DOCUMENT_INDEXING,
    RETRY_DOCUMENT_INDEXING,
    TaskContract,
)
from shared.errors import DocumentIndexingInProgress, InvalidRequest, NotFound
from shared.models import Document, DocumentStatus, UploadFile
from shared.models.document_status import IN_PROGRESS
from shared.queueing import guard, outbox
from shared.submitting.announcing import groups_of
from shared.submitting.control import announce_waiting
from shared.submitting.dataset import require_no_url
from shared.submitting.files import StoredFile, upload_files
from shared.submitting.ids import AnyId, checked_id, checked_ids
from shared.submitting.process_rules import AnyRule, set_document_rule
from shared.submitting.restarting import restart

_RESTING = (DocumentStatus.COMPLETED, DocumentStatus.ERROR)
_ANNOUNCED = text("""
    UPDATE documents SET message_id = :message_id WHERE id = ANY(CAST(:ids AS uuid[]))
""")


def retry_documents(
    session: Session,
    ids: Sequence[AnyId],
    *,
    anew: bool = False,
    celery: Celery | None = None,
    redis: "Redis | None" = None,
    guard_seconds: int = 600,
) -> list[UUID]:
    """Let documents that ended as ``error`` be indexed again, in the caller's transaction.

    Args:
        session: the caller's.
        ids: which documents; all of them have failed.
        anew: whether to make the version even if nothing has changed since the one that serves.
        celery: publishes right after the commit; without it a worker's relay does.
        redis: sets their guards.
        guard_seconds: life of the guards.

    Returns:
        The ids.

    Raises:
        NotFound: one of them does not exist.
        InvalidRequest: one of them has not failed, or an id is none.
        DocumentIndexingInProgress: one of them is being indexed.
    """
    rows = _resting(session, ids)
    for row in rows:
        if row.indexing_status != DocumentStatus.ERROR:
            raise InvalidRequest(
                f"document {row.id} is completed, there is nothing to retry: "
                "to index it again all the same, duplicate or update it"
            )
    return _again(session, rows, RETRY_DOCUMENT_INDEXING, celery, redis, guard_seconds, anew=anew)


def duplicate_documents(
    session: Session,
    ids: Sequence[AnyId],
    *,
    anew: bool = False,
    celery: Celery | None = None,
    redis: "Redis | None" = None,
    guard_seconds: int = 600,
) -> list[UUID]:
    """Index documents again as they are, as if the same files had been uploaded once more.

    Their file, and the rule that counts now, make the new version; what has not
    changed is not embedded, and where nothing has changed there is no new version.
    Arguments as ``retry_documents``.

    Returns:
        The ids.

    Raises:
        NotFound: one of them does not exist.
        InvalidRequest: one of them is paused, or an id is none.
        DocumentIndexingInProgress: one of them waits for a worker, or is being indexed.
    """
    rows = _resting(session, ids)
    return _again(
        session, rows, DUPLICATE_DOCUMENT_INDEXING, celery, redis, guard_seconds, anew=anew
    )


def update_document(
    session: Session,
    document_id: AnyId,
    *,
    file: StoredFile | None = None,
    rule: AnyRule | None = None,
    anew: bool = False,
    celery: Celery | None = None,
    redis: "Redis | None" = None,
    guard_seconds: int = 600,
) -> UUID:
    """Give a document a new file, a new rule or both, in the caller's transaction.

    Args:
        session: the caller's.
        document_id: which document.
        file: its content from now on; the old file is deleted when nobody else has it.
        rule: how it is cleaned and split from now on.
        anew: whether to make the version even if both say what the one that serves was made by.
        celery: publishes right after the commit; without it a worker's relay does.
        redis: sets its guard.
        guard_seconds: life of the guard.

    Returns:
        The id.

    Raises:
        NotFound: it does not exist.
        InvalidRequest: there is neither a file nor a rule, the rule says something wrong
            or does not go with the dataset's form, the document is paused, it comes from
            a URL and is given a file, or its id is none.
        DocumentIndexingInProgress: it waits for a worker, or is being indexed.
    """
    if file is None and rule is None:
        raise InvalidRequest(
            "nothing is new: give a file, a rule or both; to index it again as it is, duplicate it"
        )
    document_id = checked_id("document_id", document_id)
    (row,) = _resting(session, [document_id])
    if rule is not None:
        set_document_rule(session, document_id, rule)
    if file is not None:
        require_no_url([session.get_one(Document, document_id, populate_existing=True)])
        uploads = upload_files(session, row.tenant_id, [file])
        session.execute(
            update(Document)
            .where(Document.id == document_id)
            .values(upload_file_id=uploads[file.sha256, file.name], name=file.name)
            .execution_options(synchronize_session=False)
        )
    _again(session, [row], DOCUMENT_INDEXING_UPDATE, celery, redis, guard_seconds, anew=anew)
    return document_id


def require_unguarded(redis: "Redis | None", ids: Sequence[UUID]) -> None:
    """Check that nobody indexes documents.

    Raises:
        DocumentIndexingInProgress: somebody indexes one of them.
    """
    if redis is None:
        return
    for held in guard.held_of(redis, ids):
        raise DocumentIndexingInProgress(
            f"document {held} is being indexed: wait for it to finish, or cancel it, then ask again"
        )


def _resting(session: Session, ids: Sequence[AnyId]) -> list[Row[UUID, UUID, DocumentStatus, int]]:
    """The documents, locked; all of them have ended."""
    wanted = checked_ids("document ids", ids)
    query = (
        select(Document.id, Document.tenant_id, Document.indexing_status, Document.index_version)
        .where(Document.id.in_(wanted))
        .order_by(Document.id)
        .with_for_update()
    )
    rows = list(session.execute(query))
    missing = set(wanted) - {row.id for row in rows}
    if missing:
        raise NotFound(f"there is no document {', '.join(map(str, sorted(missing, key=str)))}")
    for row in rows:
        if row.indexing_status in {DocumentStatus.WAITING, *IN_PROGRESS}:
            raise DocumentIndexingInProgress(
                f"document {row.id} is {row.indexing_status}: "
                "wait for it to finish, or cancel it, then ask again"
            )
        if row.indexing_status == DocumentStatus.PAUSED:
            raise InvalidRequest(f"document {row.id} is paused: resume or cancel it first")
    return rows


def _again(
    session: Session,
    rows: Sequence[Row[UUID, UUID, DocumentStatus, int]],
    task: TaskContract,
    celery: Celery | None,
    redis: "Redis | None",
    guard_seconds: int,
    *,
    anew: bool,
) -> list[UUID]:
    ids = [row.id for row in rows]
    started = restart(session, ids, _RESTING, anew=anew)
    if redis is not None:
        free = guard.acquire(redis, started, guard_seconds)
        for document_id, _ in started:
            if document_id not in free:
                raise DocumentIndexingInProgress(
                    f"document {document_id} is being indexed: "
                    "wait for it to finish, then ask again"
                )
    _announce(session, ids, task, celery)
    return ids


def _announce(
    session: Session, ids: Sequence[UUID], task: TaskContract, celery: Celery | None
) -> None:
    query = (
        select(
            Document.id,
            Document.dataset_id,
            Document.tenant_id,
            Document.data_source,
            UploadFile.size_bytes,
        )
        .outerjoin(UploadFile, UploadFile.id == Document.upload_file_id)
        .where(Document.id.in_(ids))
        .order_by(Document.dataset_id, Document.position)
    )
    found = session.execute(query).all()
    # A URL that was never fetched has no file to index: it is fetched first.
    rows = [row for row in found if row.data_source != "url" or row.size_bytes is not None]
    unfetched = {row.id for row in found} - {row.id for row in rows}
    if unfetched:
        announce_waiting(session, sorted(unfetched, key=str), celery=celery)
    for (dataset_id, tenant_id), of_dataset in groupby(
        rows, key=lambda row: (row.dataset_id, row.tenant_id)
    ):
        sizes = [(row.id, row.size_bytes or 0) for row in of_dataset]
        for group in groups_of(session, dataset_id, sizes):
            together = [str(document_id) for document_id in group]
            subject = together[0] if task is DOCUMENT_INDEXING_UPDATE else together
            arguments = [str(dataset_id), subject]
            message_id = outbox.write(
                session, task.name, arguments, celery=celery, tenant_id=tenant_id
            )
            session.execute(_ANNOUNCED, {"message_id": message_id, "ids": together})
