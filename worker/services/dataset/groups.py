"""A message about several documents: each ends for itself, none holds up or fails another."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from uuid import UUID

from sqlalchemy import select

from shared.contract import DOCUMENT_INDEXING
from shared.errors import RagWorkerError, ShuttingDown, Superseded, Transient
from shared.models import Dataset, Document, UploadFile
from shared.queueing import task_context
from shared.queueing.outage import RETRYABLE
from shared.queueing.task import wait_seconds
from shared.submitting.grouping import SLOW_GROUP_DOCUMENTS, grouped, most_together
from worker.delivery import dead_letters, runs
from worker.delivery.ending import deserves_burial
from worker.services.dataset.document_ends import EndsTogether, end_alone
from worker.services.dataset.group_claims import claimed_together
from worker.services.dataset.indexing import index_claimed, index_document
from worker.services.dataset.needs import IndexingNeeds
from worker.services.dataset.reading_together import reading_together

logger = logging.getLogger(__name__)


def index_documents(dataset_id: UUID, documents: Sequence[UUID], needs: IndexingNeeds) -> None:
    """Index a document, or the first group of several small ones; the others go out again.

    A group whose worker died goes out again one by one: what killed it is
    then known by its own message.

    Raises:
        RagWorkerError: what ``index_document`` raises, for a document alone.
    """
    if len(documents) == 1:
        index_document(documents[0], dataset_id, needs)
        return
    run = runs.current()
    if run is not None and run.is_again:
        send_one_by_one(documents, needs)
        return
    first, *others = _groups(documents, needs)
    if others:
        _send([one for other in others for one in other], needs)
    ends = EndsTogether(needs)
    with claimed_together(first, dataset_id, needs) as jobs:
        together = reading_together([jobs[one] for one in first if one in jobs], needs)
        try:
            for document_id in first:
                runs.begin_part()
                if job := jobs.pop(document_id, None):
                    index = partial(index_claimed, job, together, ends)
                else:
                    index = partial(index_document, document_id, dataset_id, needs, ends)
                _do_one_of_several(document_id, dataset_id, needs, index)
                if ends.is_full:
                    _write(ends, needs)
        finally:
            # Whatever stops the others: what these took is not to be done again.
            _write(ends, needs)


def _write(ends: EndsTogether, needs: IndexingNeeds) -> None:
    for finished in ends.write():
        job = finished.job
        end = partial(end_alone, finished, needs)
        _do_one_of_several(job.document_id, job.dataset_id, needs, end)


def _groups(documents: Sequence[UUID], needs: IndexingNeeds) -> list[list[UUID]]:
    query = (
        select(
            Document.id,
            UploadFile.size_bytes,
            Dataset.indexing_technique,
            Dataset.embedding_provider,
        )
        .join(Dataset, Dataset.id == Document.dataset_id)
        .outerjoin(UploadFile, UploadFile.id == Document.upload_file_id)
        .where(Document.id.in_(documents))
    )
    with needs.sessions() as session:
        found = {row.id: row for row in session.execute(query)}
    most = (most_together(one.indexing_technique, one.embedding_provider) for one in found.values())
    # A document that was deleted counts as empty: its claim says so.
    sizes = [(one, found[one].size_bytes or 0 if one in found else 0) for one in documents]
    return list(grouped(sizes, min(most, default=SLOW_GROUP_DOCUMENTS)))


def _do_one_of_several(
    document_id: UUID, dataset_id: UUID, needs: IndexingNeeds, work: Callable[[], object]
) -> None:
    with task_context.about(document_id):
        _try(document_id, dataset_id, needs, work)


def _try(
    document_id: UUID, dataset_id: UUID, needs: IndexingNeeds, work: Callable[[], object]
) -> None:
    try:
        work()
    except Superseded as reason:
        logger.info("%s", reason, extra={"action": "indexing.superseded"})
    except ShuttingDown:
        raise  # the message goes back whole: what is done by then is passed over
    except RETRYABLE as error:
        logger.info(
            "document %s will be tried again: %s",
            document_id,
            error,
            extra={"action": "indexing.sent_again"},
        )
        wanted = error.retry_after_seconds if isinstance(error, Transient) else None
        _send([document_id], needs, delay_seconds=wait_seconds(0, wanted))
    except RagWorkerError as error:
        # Its row says why it ended; the others go on.
        logger.warning("document %s: %s", document_id, error, extra={"action": "indexing.failed"})
        if deserves_burial(error):
            _bury(document_id, dataset_id, needs, error)


def _send(documents: Sequence[UUID], needs: IndexingNeeds, delay_seconds: float = 0.0) -> None:
    with needs.sessions.begin() as session:
        needs.announce(session, documents, delay_seconds=delay_seconds)


def send_one_by_one(documents: Sequence[UUID], needs: IndexingNeeds) -> None:
    """Announce documents with a message each."""
    with needs.sessions.begin() as session:
        for document_id in documents:
            needs.announce(session, [document_id])


def _bury(document_id: UUID, dataset_id: UUID, needs: IndexingNeeds, error: RagWorkerError) -> None:
    with needs.sessions.begin() as session:
        tenant_id = session.scalar(select(Document.tenant_id).where(Document.id == document_id))
        if tenant_id is not None:
            dead_letters.bury(
                session,
                DOCUMENT_INDEXING.name,
                DOCUMENT_INDEXING.queue,
                [str(dataset_id), [str(document_id)]],
                error,
                tenant_id=tenant_id,
                attempts=1,
            )
