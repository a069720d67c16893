"""The dataset queue's tasks."""

from functools import partial

from celery import shared_task

from shared.contract import DOCUMENT_INDEXING


@shared_task(name=DOCUMENT_INDEXING.name)
def document_indexing_task(dataset_id: str, document_ids: list[str]) -> None:
    """Index documents of a dataset; what is more than a few small ones goes to other workers."""
    from worker.services.dataset.groups import index_documents
    from worker.services.dataset.messages import parse_ids
    from worker.wiring import indexing_needs

    dataset, documents = parse_ids(dataset_id, document_ids)
    send = partial(document_indexing_task.delay, dataset_id)
    index_documents(dataset, documents, indexing_needs(), send)
