"""The dataset queue's tasks about a whole dataset's index."""

from collections.abc import Mapping, Sequence
from typing import Any

from celery import shared_task
from sqlalchemy.orm import Session

from shared.contract import BUILD_DATASET_INDEX, CLEAN_DATASET_INDEX, DEAL_DATASET_VECTOR_INDEX
from shared.errors import RagWorkerError
from shared.queueing.task import FlaskTask


class IndexTask(FlaskTask):
    """A task about a change of an index: what becomes of its message shows in the build's row."""

    abstract = True
    subject = "index"

    def abandon(
        self, reason: RagWorkerError, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        """End the build as ``error``, with the reason; the index in use stays."""
        from worker.services.dataset.index_switching import give_up_build
        from worker.services.dataset.messages import build_of
        from worker.wiring import index_needs

        if build_id := build_of(self.name, args, kwargs):
            give_up_build(build_id, index_needs(), str(reason))

    def split_up(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        """Announce the documents one by one, of a message about several."""
        from worker.services.dataset.index_changing import split_up
        from worker.services.dataset.messages import build_documents_of, build_of
        from worker.wiring import index_needs

        build_id = build_of(self.name, args, kwargs)
        documents = build_documents_of(args, kwargs)
        if build_id is None or len(documents) < 2:  # noqa: PLR2004 - several
            return False
        split_up(build_id, documents, index_needs())
        return True

    def revive(self, session: Session, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Begin the build again, unless a later one was wished for."""
        from worker.services.dataset.index_switching import revive_build
        from worker.services.dataset.messages import build_of
        from worker.wiring import index_needs

        if build_id := build_of(self.name, args, kwargs):
            revive_build(session, build_id, index_needs())


@shared_task(name=DEAL_DATASET_VECTOR_INDEX.name, base=IndexTask)
def deal_dataset_vector_index_task(
    dataset_id: str, action: str, build_id: str | None = None
) -> None:
    """Change a dataset's index: ``add``, ``update`` or ``remove``; other workers join in."""
    from worker.services.dataset.index_changing import change_index
    from worker.services.dataset.messages import parse_id
    from worker.wiring import index_needs

    build = None if build_id is None else parse_id("build_id", build_id)
    change_index(parse_id("dataset_id", dataset_id), action, build, index_needs())


@shared_task(name=BUILD_DATASET_INDEX.name, base=IndexTask)
def build_dataset_index_task(dataset_id: str, build_id: str, document_ids: list[str]) -> None:
    """Build some documents' parts; whoever builds the last one switches search to the index."""
    from worker.services.dataset.index_building import build_documents
    from worker.services.dataset.messages import parse_id, parse_ids
    from worker.wiring import index_needs

    _, documents = parse_ids(dataset_id, document_ids)
    build_documents(parse_id("build_id", build_id), documents, index_needs())


@shared_task(name=CLEAN_DATASET_INDEX.name)
def clean_dataset_index_task(dataset_id: str) -> None:
    """Delete the vectors of indexes that search does not use any more."""
    from worker.services.dataset.index_cleaning import clean_index
    from worker.services.dataset.messages import parse_id
    from worker.wiring import index_needs

    clean_index(parse_id("dataset_id", dataset_id), index_needs())
