"""What an operator asks of the storage: files without rows, rows without files."""

from collections.abc import Callable, Iterator

from flask import current_app
from sqlalchemy import select

from shared.errors import InvalidRequest
from shared.models import ScheduledRun
from shared.settings import Settings
from worker.delivery.alone import Done, Turn, run_alone, run_id
from worker.services.dataset.missing_files import MissingFile, missing_files
from worker.services.dataset.stored_orphans import clean_orphaned_files
from worker.stores.files import StoredFiles
from worker.wiring.dataset import remove_unused_files
from worker.wiring.foundations import heartbeat, sessions

_NAME = "clear_orphaned_files"


def clear(older_than_seconds: float, tell: Callable[[str], None], *, deletes: bool) -> None:
    """Let files go that no row names; ``tell`` is called with the key of each.

    Raises:
        InvalidRequest: somebody else is at it.
        ServiceUnavailable: (transient) the storage does not answer.
    """
    settings: Settings = current_app.extensions["settings"]

    def work(turn: Turn) -> Done:
        # Whoever calls it wants all of them, wherever an earlier call has come to.
        turn.position = None
        done = clean_orphaned_files(
            sessions(),
            StoredFiles(current_app.extensions["storage"]),
            turn,
            older_than_seconds=older_than_seconds,
            deletes=deletes,
            tell=tell,
        )
        if deletes:
            remove_unused_files()
        return done

    done = run_alone(
        _NAME,
        work,
        sessions=sessions(),
        heartbeat=heartbeat(),
        lease_seconds=settings.delivery.delivery_lease_seconds,
    )
    if done is None:
        raise InvalidRequest(f"{_owner()} is at it already: wait for it to end")


def missing() -> Iterator[MissingFile]:
    """Rows whose file is not in the storage.

    Raises:
        ServiceUnavailable: (transient) the storage does not answer.
    """
    return missing_files(sessions(), StoredFiles(current_app.extensions["storage"]))


def _owner() -> str:
    query = select(ScheduledRun.lease_owner).where(ScheduledRun.id == run_id(_NAME))
    with sessions()() as session:
        return session.scalar(query) or "another process"
