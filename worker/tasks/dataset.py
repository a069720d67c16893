"""The dataset queue's tasks."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid4, uuid5

from celery import shared_task
from sqlalchemy.orm import Session

from shared.contract import (
    ADD_DOCUMENT_TO_INDEX,
    BATCH_CLEAN_DOCUMENT,
    CLEAN_DATASET,
    CLEAN_DOCUMENT,
    CLEAN_FILES,
    DOCUMENT_INDEXING,
    DOCUMENT_INDEXING_UPDATE,
    DOCUMENT_SYNC,
    DUPLICATE_DOCUMENT_INDEXING,
    RECOVER_DOCUMENT_INDEXING,
    REMOVE_DOCUMENT_FROM_INDEX,
    RETRY_DOCUMENT_INDEXING,
)
from shared.errors import RagWorkerError
from shared.queueing.task import FlaskTask
from worker.tasks.segments import (
    batch_create_segment_to_index_task,
    create_segment_to_index_task,
    delete_segment_from_index_task,
    disable_segment_from_index_task,
    disable_segments_from_index_task,
    enable_segment_to_index_task,
    enable_segments_to_index_task,
    update_segment_to_index_task,
)

__all__ = [
    "DocumentsTask",
    "batch_create_segment_to_index_task",
    "create_segment_to_index_task",
    "delete_segment_from_index_task",
    "disable_segment_from_index_task",
    "disable_segments_from_index_task",
    "document_indexing_task",
    "enable_segment_to_index_task",
    "enable_segments_to_index_task",
    "update_segment_to_index_task",
]


class DocumentsTask(FlaskTask):
    """A task about documents of a dataset: what becomes of its message shows in their rows."""

    abstract = True
    subject = "document"

    @property
    def message_id(self) -> UUID:
        """The id of the message, the same in each of its deliveries."""
        if self.request.id is None:  # called as a function
            return uuid4()
        try:
            return UUID(self.request.id)
        except ValueError:
            return uuid5(NAMESPACE_OID, self.request.id)

    def abandon(
        self, reason: RagWorkerError, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        """End the documents as ``error``, with the reason."""
        from worker.services.dataset.giving_up import give_up_documents
        from worker.services.dataset.messages import parse_message
        from worker.wiring import indexing_needs

        if message := parse_message(args, kwargs):
            give_up_documents(*message, indexing_needs(), str(reason))

    def split_up(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        """Announce the documents one by one."""
        from worker.services.dataset.groups import send_one_by_one
        from worker.services.dataset.messages import parse_message
        from worker.wiring import indexing_needs

        message = parse_message(args, kwargs)
        if message is None or len(message[1]) == 1:
            return False
        send_one_by_one(message[1], indexing_needs())
        return True

    def revive(self, session: Session, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Let the documents wait again."""
        from worker.services.dataset.giving_up import revive_documents
        from worker.services.dataset.messages import parse_message

        if message := parse_message(args, kwargs):
            revive_documents(session, *message)

    def replayed(
        self,
        session: Session,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        message_id: UUID,
    ) -> None:
        """Note the new message in the documents that wait for one."""
        from worker.services.dataset.giving_up import adopt_documents
        from worker.services.dataset.messages import parse_message

        if message := parse_message(args, kwargs):
            adopt_documents(session, *message, message_id)


@shared_task(name=DOCUMENT_INDEXING.name, base=DocumentsTask)
def document_indexing_task(dataset_id: str, document_ids: list[str]) -> None:
    """Index documents of a dataset; what is more than a few small ones goes to other workers."""
    from worker.services.dataset.groups import index_documents
    from worker.services.dataset.messages import parse_ids
    from worker.wiring import indexing_needs

    dataset, documents = parse_ids(dataset_id, document_ids)
    index_documents(dataset, documents, indexing_needs())


@shared_task(name=DOCUMENT_INDEXING_UPDATE.name, base=DocumentsTask, bind=True)
def document_indexing_update_task(self: DocumentsTask, dataset_id: str, document_id: str) -> None:
    """Index a document that has another file or rule; the old version serves meanwhile."""
    from worker.services.dataset.messages import parse_ids
    from worker.services.dataset.restarting import index_again
    from worker.wiring import indexing_needs

    dataset, documents = parse_ids(dataset_id, [document_id])
    index_again(dataset, documents, self.message_id, indexing_needs())


@shared_task(name=DUPLICATE_DOCUMENT_INDEXING.name, base=DocumentsTask, bind=True)
def duplicate_document_indexing_task(
    self: DocumentsTask, dataset_id: str, document_ids: list[str]
) -> None:
    """Index documents again that were uploaded once more; the old versions serve meanwhile."""
    from worker.services.dataset.messages import parse_ids
    from worker.services.dataset.restarting import index_again
    from worker.wiring import indexing_needs

    dataset, documents = parse_ids(dataset_id, document_ids)
    index_again(dataset, documents, self.message_id, indexing_needs())


@shared_task(name=RETRY_DOCUMENT_INDEXING.name, base=DocumentsTask, bind=True)
def retry_document_indexing_task(
    self: DocumentsTask, dataset_id: str, document_ids: list[str], *_: Any
) -> None:
    """Index documents that ended as ``error`` once more; who wants it, as in Dify, is not used."""
    from worker.services.dataset.messages import parse_ids
    from worker.services.dataset.restarting import retry_failed
    from worker.wiring import indexing_needs

    dataset, documents = parse_ids(dataset_id, document_ids)
    retry_failed(dataset, documents, self.message_id, indexing_needs())


@shared_task(name=RECOVER_DOCUMENT_INDEXING.name, base=DocumentsTask, bind=True)
def recover_document_indexing_task(self: DocumentsTask, dataset_id: str, document_id: str) -> None:
    """Let a document go on that is paused, or that nobody works on any more."""
    from worker.services.dataset.messages import parse_ids
    from worker.services.dataset.restarting import recover_paused
    from worker.wiring import indexing_needs

    dataset, documents = parse_ids(dataset_id, [document_id])
    recover_paused(dataset, documents, self.message_id, indexing_needs())


@shared_task(name=ADD_DOCUMENT_TO_INDEX.name)
def add_document_to_index_task(document_id: str) -> None:
    """Bring along what depends on a document that search may see again, if that is so still."""
    from worker.services.dataset.availability import follow_flags
    from worker.services.dataset.messages import parse_id
    from worker.wiring import indexing_needs

    needs = indexing_needs()
    follow_flags(parse_id("document_id", document_id), needs.sessions, needs.progress)


@shared_task(name=REMOVE_DOCUMENT_FROM_INDEX.name)
def remove_document_from_index_task(document_id: str) -> None:
    """Bring along what depends on a document that search may not see, if that is so still."""
    from worker.services.dataset.availability import follow_flags
    from worker.services.dataset.messages import parse_id
    from worker.wiring import indexing_needs

    needs = indexing_needs()
    follow_flags(parse_id("document_id", document_id), needs.sessions, needs.progress)


class RemovalTask(FlaskTask):
    """A task that deletes what is gone for users already."""

    abstract = True

    def abandon(
        self,
        reason: RagWorkerError,  # noqa: ARG002 - the dead letter says it
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> None:
        """Let the sweeper wait before it sends the same out again."""
        from worker.services.dataset.removal_sweeping import postpone
        from worker.wiring import removal_needs

        postpone(removal_needs().sessions, [*args, *kwargs.values()])


@shared_task(name=CLEAN_DOCUMENT.name, base=RemovalTask)
def clean_document_task(document_id: str, dataset_id: str, *_: Any) -> None:
    """Delete a document, if it is still there, and all that belongs to it.

    What Dify's producers say further (form, file) stands in the database.
    """
    from worker.services.dataset.messages import parse_ids
    from worker.services.dataset.removal import clean_documents
    from worker.wiring import removal_needs

    dataset, documents = parse_ids(dataset_id, [document_id])
    clean_documents(dataset, documents, removal_needs())


@shared_task(name=BATCH_CLEAN_DOCUMENT.name, base=RemovalTask)
def batch_clean_document_task(document_ids: list[str], dataset_id: str, *_: Any) -> None:
    """Delete documents of a dataset and all that belongs to them."""
    from worker.services.dataset.messages import parse_ids
    from worker.services.dataset.removal import clean_documents
    from worker.wiring import removal_needs

    dataset, documents = parse_ids(dataset_id, document_ids)
    clean_documents(dataset, documents, removal_needs())


@shared_task(name=CLEAN_DATASET.name, base=RemovalTask)
def clean_dataset_task(dataset_id: str, *_: Any) -> None:
    """Delete a dataset, its documents and all that belongs to them."""
    from worker.services.dataset.messages import parse_id
    from worker.services.dataset.removal import clean_dataset
    from worker.wiring import removal_needs

    clean_dataset(parse_id("dataset_id", dataset_id), removal_needs())


@shared_task(name=CLEAN_FILES.name, base=RemovalTask)
def clean_files_task() -> None:
    """Take files that no document has any more out of the storage."""
    from worker.wiring import remove_unused_files

    remove_unused_files()


class SourceTask(FlaskTask):
    """A task about one document of a URL: what becomes of its message shows in the row."""

    abstract = True
    subject = "document"

    def abandon(
        self, reason: RagWorkerError, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        """Say in the row why its URL is not fetched; what serves goes on serving."""
        from worker.services.dataset.messages import parse_one_message
        from worker.services.dataset.source_claiming import give_up_source
        from worker.wiring import sync_needs

        if message := parse_one_message(args, kwargs):
            give_up_source(sync_needs().sessions, *message, str(reason))

    def revive(self, session: Session, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Let a document that was never fetched wait again."""
        from worker.services.dataset.messages import parse_one_message
        from worker.services.dataset.source_claiming import revive_source

        if message := parse_one_message(args, kwargs):
            revive_source(session, *message)


@shared_task(name=DOCUMENT_SYNC.name, base=SourceTask)
def document_indexing_sync_task(dataset_id: str, document_id: str) -> None:
    """Fetch a document's URL, and announce a new version if its content changed."""
    from worker.services.dataset.messages import parse_ids
    from worker.services.dataset.syncing import sync_document
    from worker.wiring import sync_needs

    dataset, (document,) = parse_ids(dataset_id, [document_id])
    sync_document(document, dataset, sync_needs())
