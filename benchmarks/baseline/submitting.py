"""The recipe's producer: rows, a commit, a guard and a message each."""

from collections.abc import Callable, Sequence

from redis import Redis
from sqlalchemy import select
from sqlalchemy.orm import Session

from benchmarks.baseline.models import Document

GUARD_SECONDS = 600


def guard_key(document_id: int) -> str:
    """The flag that a document is being indexed."""
    return f"document_{document_id}_indexing"


def submit(
    session: Session,
    redis: "Redis",
    tenant: int,
    files: Sequence[tuple[str, str, bytes]],
    delay: Callable[[int], object],
) -> dict[str, str]:
    """Write the rows, commit, then send a message each.

    Args:
        session: a session of its own.
        redis: for the guards.
        tenant: whose documents they are.
        files: source key, file name and content of each.
        delay: the task's.

    Returns:
        By source key, ``"in_progress"`` for a document whose guard is held, else ``"new"``.
    """
    wanted: list[Document] = []
    outcomes: dict[str, str] = {}
    for key, name, content in files:
        document = session.scalar(select(Document).where(Document.source_key == key))
        if document is None:
            document = Document(tenant=tenant, source_key=key)
            session.add(document)
        elif redis.exists(guard_key(document.id)):
            outcomes[key] = "in_progress"
            continue
        document.name, document.content = name, content
        document.status, document.error = "waiting", None
        outcomes[key] = "new"
        wanted.append(document)
    session.flush()
    ids = [document.id for document in wanted]
    session.commit()
    for document_id in ids:
        redis.setex(guard_key(document_id), GUARD_SECONDS, 1)
        delay(document_id)
    return outcomes
