"""URLs on the command line: submitted, looked at again, awaited."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from uuid import UUID

from flask import current_app
from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.contract import DOCUMENT_SYNC
from shared.errors import NotFound
from shared.models import Document, OutboxMessage, db
from shared.settings import Settings
from shared.submitting.urls import UrlSubmission, submit_urls, sync_documents
from worker.cli.transactions import committed

_POLL_SECONDS = 0.2
#: URLs or documents a transaction.
_BATCH = 500


def submit_all(dataset_id: UUID, urls: Sequence[str]) -> list[UrlSubmission]:
    """Submit URLs and announce them.

    Raises:
        UnusableUrl: one is nothing that can be fetched.
    """
    submissions: list[UrlSubmission] = []
    for start in range(0, len(urls), _BATCH):
        batch = urls[start : start + _BATCH]
        submissions += committed(partial(_submit, dataset_id=dataset_id, urls=batch))
    return submissions


def _submit(session: Session, dataset_id: UUID, urls: Sequence[str]) -> list[UrlSubmission]:
    return submit_urls(
        session,
        current_app.extensions["redis"],
        dataset_id,
        urls,
        _guard_seconds(),
        celery=current_app.extensions["celery"],
    )


def sync_all(document_ids: Sequence[UUID]) -> list[UrlSubmission]:
    """Ask for documents of URLs, of any dataset, to be looked at again.

    Raises:
        NotFound: one of them does not exist.
        InvalidRequest: one of them does not come from a URL.
    """
    return committed(partial(_sync, document_ids=document_ids))


def _sync(session: Session, document_ids: Sequence[UUID]) -> list[UrlSubmission]:
    query = select(Document.id, Document.dataset_id).where(Document.id.in_(document_ids))
    places = {row.id: row.dataset_id for row in session.execute(query)}
    missing = [str(one) for one in document_ids if one not in places]
    if missing:
        raise NotFound(f"there is no document {', '.join(missing)}")
    asked: list[UrlSubmission] = []
    for dataset_id in sorted(set(places.values())):
        asked += sync_documents(
            session,
            current_app.extensions["redis"],
            dataset_id,
            [one for one in document_ids if places[one] == dataset_id],
            _guard_seconds(),
            celery=current_app.extensions["celery"],
        )
    return asked


def await_fetched(
    document_ids: Sequence[UUID], timeout_seconds: float, check: Callable[[], None]
) -> None:
    """Wait until no message asks for a fetch of the documents any more, or the time is over."""
    pending = (
        select(OutboxMessage.id)
        .join(Document, Document.message_id == OutboxMessage.id)
        .where(Document.id.in_(document_ids), OutboxMessage.task == DOCUMENT_SYNC.name)
        .limit(1)
    )
    deadline = time.monotonic() + timeout_seconds
    while document_ids and time.monotonic() < deadline:
        check()
        with Session(db.engine) as session:
            if session.scalar(pending) is None:
                return
        time.sleep(_POLL_SECONDS)


def _guard_seconds() -> int:
    settings: Settings = current_app.extensions["settings"]
    return settings.indexing.indexing_guard_seconds
