"""A message about several documents: each ends for itself, none holds up or fails another."""

import logging
from collections.abc import Callable, Sequence
from uuid import UUID

from sqlalchemy import select

from shared.errors import Superseded
from shared.models import Document, UploadFile
from shared.queueing.outage import RETRYABLE
from shared.submitting.grouping import grouped
from worker.services.dataset.indexing import index_document
from worker.services.dataset.needs import IndexingNeeds

logger = logging.getLogger(__name__)

Send = Callable[[list[str]], object]


def index_documents(
    dataset_id: UUID, documents: Sequence[UUID], needs: IndexingNeeds, send: Send
) -> None:
    """Index a document, or the first group of several small ones.

    Args:
        dataset_id: theirs.
        documents: at least one.
        needs: what a run takes.
        send: publishes a message about other documents: what is too much for this
            one, and documents to be tried again.

    Raises:
        RagWorkerError: what ``index_document`` raises, for a document alone.
    """
    first, *others = [list(documents)] if len(documents) == 1 else _groups(documents, needs)
    for other in others:
        send([str(document_id) for document_id in other])
    if len(first) == 1:
        index_document(first[0], dataset_id, needs)
        return
    for document_id in first:
        _index_one_of_several(document_id, dataset_id, needs, send)


def _groups(documents: Sequence[UUID], needs: IndexingNeeds) -> list[list[UUID]]:
    query = (
        select(Document.id, UploadFile.size_bytes)
        .outerjoin(UploadFile, UploadFile.id == Document.upload_file_id)
        .where(Document.id.in_(documents))
    )
    with needs.sessions() as session:
        sizes = {row.id: row.size_bytes or 0 for row in session.execute(query)}
    # A document that was deleted counts as empty: its claim says so.
    return list(grouped((document_id, sizes.get(document_id, 0)) for document_id in documents))


def _index_one_of_several(
    document_id: UUID, dataset_id: UUID, needs: IndexingNeeds, send: Send
) -> None:
    try:
        index_document(document_id, dataset_id, needs)
    except Superseded as reason:
        logger.info("%s", reason, extra={"action": "indexing.superseded"})
    except RETRYABLE as error:
        logger.info(
            "document %s will be tried again: %s",
            document_id,
            error,
            extra={"action": "indexing.sent_again"},
        )
        send([str(document_id)])  # alone: then it waits and is counted as any retry
    except Exception:
        # Its row says why it ended; the others go on.
        logger.exception("document %s failed", document_id, extra={"action": "indexing.failed"})
