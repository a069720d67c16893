"""Finds what was deleted and not cleaned up, and sends out the messages that do it.

It finds what raw SQL deleted, what a plain ``.delay()`` lost, and what a clean-up
that was given up left.
"""

import logging
from collections.abc import Sequence
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from shared.contract import BATCH_CLEAN_DOCUMENT, CLEAN_DATASET, CLEAN_FILES, TaskContract

logger = logging.getLogger(__name__)

_BATCH = 1000
_FORGOTTEN = text("""
    SELECT id, kind, tenant_id, dataset_id, document_id FROM removals
    WHERE due_at <= now()
      AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.id = removals.message_id)
    ORDER BY due_at LIMIT :batch
    FOR UPDATE SKIP LOCKED
""")
_ANNOUNCED = text("""
    UPDATE removals SET message_id = :message_id WHERE id = ANY(CAST(:ids AS uuid[]))
""")

_POSTPONED_SECONDS = 3600.0
_POSTPONE = text("""
    UPDATE removals SET due_at = now() + make_interval(secs => :seconds), message_id = NULL
    WHERE due_at <= now() AND (
        document_id = ANY(CAST(:ids AS uuid[]))
        OR kind = 'dataset' AND dataset_id = ANY(CAST(:ids AS uuid[]))
        OR :files AND kind IN ('upload_file', 'stored_file')
    )
""")

#: What a message is about, and the notes it does away with.
_Messages = dict[tuple[TaskContract, UUID, UUID | None], list[Any]]


class Write(Protocol):
    """The outbox."""

    def __call__(
        self, session: Session, task: str, args: Sequence[Any], *, tenant_id: UUID
    ) -> UUID:
        """Write a message in the session's transaction; its id."""


def sweep_removals(sessions: sessionmaker[Session], write: Write) -> int:
    """Send out messages for what nobody cleans up.

    Returns:
        How many things that were.
    """
    swept = 0
    while found := _sweep_batch(sessions, write):
        swept += found
    if swept:
        logger.info(
            "%s removals had no message: sent out", swept, extra={"action": "sweeper.removals"}
        )
    return swept


def postpone(sessions: sessionmaker[Session], arguments: Sequence[Any]) -> None:
    """Leave alone for a while what a message was about that was given up.

    Args:
        sessions: makes sessions.
        arguments: the message's: ids, and lists of ids; none is files.
    """
    named = [one if isinstance(one, list) else [one] for one in arguments]
    ids = [one for several in named for one in several if _is_id(one)]
    with sessions.begin() as session:
        values = {"ids": ids, "files": not arguments, "seconds": _POSTPONED_SECONDS}
        session.execute(_POSTPONE, values)


def _is_id(value: Any) -> bool:
    try:
        UUID(value)
    except (ValueError, AttributeError, TypeError):
        return False
    return True


def _sweep_batch(sessions: sessionmaker[Session], write: Write) -> int:
    with sessions.begin() as session:
        found = session.execute(_FORGOTTEN, {"batch": _BATCH}).all()
        for (task, tenant_id, dataset_id), rows in _by_message(found).items():
            message_id = write(
                session, task.name, _arguments(task, dataset_id, rows), tenant_id=tenant_id
            )
            ids = [str(row.id) for row in rows]
            session.execute(_ANNOUNCED, {"message_id": message_id, "ids": ids})
    return len(found)


def _by_message(found: Sequence[Any]) -> _Messages:
    tasks = {"document": BATCH_CLEAN_DOCUMENT, "dataset": CLEAN_DATASET}
    messages: _Messages = {}
    for row in found:
        task = tasks.get(row.kind, CLEAN_FILES)
        dataset_id = None if task is CLEAN_FILES else row.dataset_id
        messages.setdefault((task, row.tenant_id, dataset_id), []).append(row)
    return messages


def _arguments(task: TaskContract, dataset_id: UUID | None, rows: Sequence[Any]) -> list[Any]:
    if task is CLEAN_FILES:
        return []
    if task is CLEAN_DATASET:
        return [str(dataset_id)]
    return [[str(row.document_id) for row in rows], str(dataset_id)]
