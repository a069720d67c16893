"""Documents are indexed again because a message says so.

A producer of ours has let them wait in their new version already, in the transaction
that wrote the message. One that sends the ids alone has not: then it is done here, once a
message. Either way the old version serves until the new one is whole.
"""

from collections.abc import Sequence
from uuid import UUID

from shared.models import DocumentStatus
from shared.models.document_status import IN_PROGRESS
from shared.submitting.restarting import restart
from worker.services.dataset.groups import index_documents
from worker.services.dataset.needs import IndexingNeeds

_ENDED = (DocumentStatus.COMPLETED, DocumentStatus.ERROR)
_FAILED = (DocumentStatus.ERROR,)
_UNFINISHED = (DocumentStatus.PAUSED, DocumentStatus.WAITING, *IN_PROGRESS)


def index_again(
    dataset_id: UUID, documents: Sequence[UUID], message_id: UUID, needs: IndexingNeeds
) -> None:
    """Index documents in a new version, also those that are completed.

    Args:
        dataset_id: theirs; those of another dataset are left alone.
        documents: which ones.
        message_id: the message's; delivered again it starts no second version.
        needs: what a run takes.

    Raises:
        RagWorkerError: what ``index_document`` raises, for a document alone.
    """
    with needs.sessions.begin() as session:
        restart(session, documents, _ENDED, message_id=message_id, dataset_id=dataset_id)
    index_documents(dataset_id, documents, needs)


def retry_failed(
    dataset_id: UUID, documents: Sequence[UUID], message_id: UUID, needs: IndexingNeeds
) -> None:
    """Index documents that ended as ``error`` once more; see ``index_again``."""
    with needs.sessions.begin() as session:
        restart(session, documents, _FAILED, message_id=message_id, dataset_id=dataset_id)
    index_documents(dataset_id, documents, needs)


def recover_paused(
    dataset_id: UUID, documents: Sequence[UUID], message_id: UUID, needs: IndexingNeeds
) -> None:
    """Index paused documents, and those that nobody works on any more; see ``index_again``."""
    with needs.sessions.begin() as session:
        restart(
            session,
            documents,
            _UNFINISHED,
            message_id=message_id,
            dataset_id=dataset_id,
            only_paused=True,
        )
    index_documents(dataset_id, documents, needs)
