"""Documents are followed until each is completed or ended."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.models import Document, DocumentStatus, db

POLL_SECONDS = 0.2
#: Rows looked at in one poll: work is done roughly in the order it was submitted.
_WINDOW = 500
_ENDED = {DocumentStatus.COMPLETED, DocumentStatus.ERROR, DocumentStatus.PAUSED}


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look at a document showed."""

    id: UUID
    name: str
    status: DocumentStatus
    segments: int
    error: str | None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.status in _ENDED


def follow(
    document_ids: Sequence[UUID], timeout_seconds: float, check: Callable[[], None]
) -> Iterator[list[Seen]]:
    """Yield what changed since the last look, until all documents ended or the time is over.

    A deleted document counts as ended and is not reported. An empty list says
    that a look showed nothing new. ``check`` is called before each look.
    """
    pending = dict.fromkeys(document_ids)
    last: dict[UUID, Seen] = {}
    deadline = time.monotonic() + timeout_seconds
    while pending and time.monotonic() < deadline:
        check()
        window = list(pending)[:_WINDOW]
        seen = look(window)
        changed = [one for one in seen.values() if last.get(one.id) != one]
        last.update(seen)
        for document_id in window:
            if document_id not in seen or seen[document_id].ended:
                del pending[document_id]
                last.pop(document_id, None)
        yield changed
        if pending:
            time.sleep(POLL_SECONDS)


def look(document_ids: Sequence[UUID]) -> dict[UUID, Seen]:
    """The documents as they are now."""
    query = select(
        Document.id,
        Document.name,
        Document.indexing_status,
        Document.completed_segments,
        Document.error,
    ).where(Document.id.in_(document_ids))
    with Session(db.engine) as session:
        rows = session.execute(query).all()
    return {
        row.id: Seen(
            row.id,
            row.name,
            DocumentStatus(row.indexing_status),
            row.completed_segments,
            row.error,
        )
        for row in rows
    }
