"""Tells the workers of documents that wait, by way of the outbox."""

from collections.abc import Collection, Iterable, Iterator
from uuid import UUID

from celery import Celery
from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.contract import DOCUMENT_INDEXING, DOCUMENT_SYNC
from shared.models import Dataset
from shared.queueing import outbox
from shared.submitting.grouping import SLOW_GROUP_DOCUMENTS, grouped, most_together

_ANNOUNCED = text("""
    UPDATE documents SET message_id = announced.message_id, queued_at = statement_timestamp()
    FROM unnest(CAST(:ids AS uuid[]), CAST(:message_ids AS uuid[])) AS announced(id, message_id)
    WHERE documents.id = announced.id
""")


def announce(
    session: Session,
    dataset_id: UUID,
    sizes: Iterable[tuple[UUID, int]],
    *,
    celery: Celery | None = None,
    tenant_id: UUID | None = None,
    delay_seconds: float = 0.0,
    unwritten: Collection[UUID] = (),
) -> dict[UUID, UUID]:
    """Announce documents, if and when the caller's transaction commits; small ones share a message.

    Args:
        session: the caller's.
        dataset_id: the documents'.
        sizes: documents that wait, each with its size in bytes.
        celery: publishes right after the commit; without it a worker's relay does.
        tenant_id: whose they are; the dataset's, when unset.
        delay_seconds: not before this from now.
        unwritten: those whose rows the caller writes next, with the message's id.

    Returns:
        The id of each one's message.
    """
    announced: dict[UUID, UUID] = {}
    for group in groups_of(session, dataset_id, sizes):
        message_id = outbox.write(
            session,
            DOCUMENT_INDEXING.name,
            [str(dataset_id), [str(document_id) for document_id in group]],
            celery=celery,
            tenant_id=tenant_id,
            delay_seconds=delay_seconds,
        )
        announced |= dict.fromkeys(group, message_id)
    _remember(session, {one: announced[one] for one in announced if one not in unwritten})
    return announced


def groups_of(
    session: Session, dataset_id: UUID, sizes: Iterable[tuple[UUID, int]]
) -> Iterator[list[UUID]]:
    """Cut a dataset's documents with their sizes in bytes into groups of one message each."""
    dataset = session.get(Dataset, dataset_id)
    most = SLOW_GROUP_DOCUMENTS
    if dataset is not None:
        most = most_together(dataset.indexing_technique, dataset.embedding_provider)
    return grouped(sizes, most)


def announce_sources(
    session: Session,
    dataset_id: UUID,
    document_ids: Iterable[UUID],
    *,
    celery: Celery | None = None,
    tenant_id: UUID | None = None,
    delay_seconds: float = 0.0,
) -> None:
    """Announce documents whose URL is to be fetched, a message each; see ``announce``."""
    announced = {
        document_id: outbox.write(
            session,
            DOCUMENT_SYNC.name,
            [str(dataset_id), str(document_id)],
            celery=celery,
            tenant_id=tenant_id,
            delay_seconds=delay_seconds,
        )
        for document_id in document_ids
    }
    _remember(session, announced)


def _remember(session: Session, announced: dict[UUID, UUID]) -> None:
    if announced:
        session.flush()
        values = {
            "ids": [str(one) for one in announced],
            "message_ids": [str(one) for one in announced.values()],
        }
        session.connection().execute(_ANNOUNCED, values)
