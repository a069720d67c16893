"""Files in the storage that no row names: what a producer stored and never submitted.

They leave by the same way as files of deleted documents: set aside first, and found
there as long as they are, so that a producer which stores the same content at this
moment loses nothing.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from shared.models import NO_TENANT
from worker.delivery import runs
from worker.delivery.alone import Done, Turn

logger = logging.getLogger(__name__)

_BATCH = 500
_ROOT = "upload_files"
_ASIDE = "removed/upload_files"
_DRAFTS = "drafts"
_TRACES = "traces"

# A set aside file has a note that says until when.
_UNNAMED = text("""
    SELECT key FROM unnest(CAST(:keys AS text[])) AS key
    WHERE NOT EXISTS (SELECT 1 FROM upload_files WHERE upload_files.storage_key = key)
      AND NOT EXISTS (SELECT 1 FROM removals WHERE removals.storage_key = key)
""")
_UNNOTED = text("""
    SELECT key FROM unnest(CAST(:keys AS text[])) AS key
    WHERE NOT EXISTS (SELECT 1 FROM removals WHERE removals.storage_key = key)
""")
# Spans that were moved here have their delivery's name; its row says so a moment later.
_UNDELIVERED = text("""
    SELECT key FROM unnest(CAST(:keys AS text[]), CAST(:ids AS uuid[])) AS stored(key, id)
    WHERE NOT EXISTS (SELECT 1 FROM trace_deliveries WHERE trace_deliveries.id = stored.id)
      AND NOT EXISTS (SELECT 1 FROM removals WHERE removals.storage_key = key)
""")
_NOTE = text("""
    INSERT INTO removals (kind, tenant_id, storage_key, retired_at, due_at)
    SELECT 'stored_file', :tenant_id, key, CASE WHEN :is_aside THEN now() END, now()
    FROM unnest(CAST(:keys AS text[])) AS key
    WHERE NOT EXISTS (SELECT 1 FROM upload_files WHERE upload_files.storage_key = key)
""")


class ListedFiles(Protocol):
    """The storage, as far as it says what is in it."""

    def folders(self, folder: str) -> list[str]:
        """The folders directly in a folder, in order; none when there is no such folder.

        Raises:
            ServiceUnavailable: (transient) the storage does not answer.
        """

    def files(self, folder: str) -> list[str]:
        """The keys of the files directly in a folder, in order."""

    def age_seconds(self, key: str) -> float | None:
        """Since a file was written; ``None`` when it is gone, or nobody knows."""

    def delete(self, key: str) -> None:
        """Delete a file for good."""


def clean_orphaned_files(
    sessions: sessionmaker[Session],
    files: ListedFiles,
    turn: Turn,
    *,
    older_than_seconds: float,
    deletes: bool,
    tell: Callable[[str], None] = lambda _: None,
) -> Done:
    """Find files that no row names, and let them go.

    It goes on in the folder where the run before stopped.

    Args:
        sessions: makes sessions.
        files: the storage.
        turn: this run.
        older_than_seconds: younger files may be about to be submitted.
        deletes: whether they go; else they are counted.
        tell: is called with the key of each, once it is noted that it goes.

    Raises:
        ServiceUnavailable: (transient) the storage does not answer; the rest is done later.
    """
    search = _Search(sessions, files, older_than_seconds, tell, deletes=deletes)
    # In the order of their names: those of files set aside come first.
    for root in (_ASIDE, _TRACES, _ROOT):
        look = search.in_traces if root == _TRACES else search.in_tenant
        for folder in files.folders(root):
            if folder > (turn.position or ""):
                look(folder)
                turn.reach(folder)
    turn.reach(None)
    if search.found and not deletes:
        logger.warning(
            "no row names %s stored files, such as %s",
            search.found,
            search.example,
            extra={"action": "storage.orphans"},
        )
    what = "let go" if deletes else "left where they are: see STORAGE_ORPHANS_DELETE"
    return Done(search.found, f"{search.found} files that no row names, {what}")


class _Search:
    """What a run finds.

    Attributes:
        found: how many files.
        example: one of them.
    """

    def __init__(
        self,
        sessions: sessionmaker[Session],
        files: ListedFiles,
        older_than_seconds: float,
        tell: Callable[[str], None],
        *,
        deletes: bool,
    ) -> None:
        self._sessions = sessions
        self._files = files
        self._older_than_seconds = older_than_seconds
        self._tell = tell
        self._deletes = deletes
        self.found = 0
        self.example = ""

    def in_tenant(self, folder: str) -> None:
        """Look through a tenant's files, a folder at a time."""
        is_aside = folder.startswith(_ASIDE)
        for below in self._files.folders(folder):
            keys = self._files.files(below)
            for start in range(0, len(keys), _BATCH):
                runs.checkpoint()
                batch = keys[start : start + _BATCH]
                if below.endswith(f"/{_DRAFTS}"):
                    self._drafts(batch)
                else:
                    self._stored(folder, batch, is_aside=is_aside)

    def in_traces(self, folder: str) -> None:
        """Look through the spans of a tenant's traces."""
        named = [(key, _uuid(key)) for key in self._files.files(folder)]
        keys = [(key, id_) for key, id_ in named if id_ is not None]
        for start in range(0, len(keys), _BATCH):
            runs.checkpoint()
            batch = keys[start : start + _BATCH]
            values = {"keys": [one[0] for one in batch], "ids": [str(one[1]) for one in batch]}
            with self._sessions() as session:
                unnamed: list[str] = list(session.scalars(_UNDELIVERED, values))
            self._let_go(folder, list(self._old(unnamed)), is_aside=False)

    def _drafts(self, keys: Sequence[str]) -> None:
        # What an upload left that was cut off: nothing else can name it.
        for key in self._old(keys):
            if self._deletes:
                self._files.delete(key)
            self._count(key)

    def _stored(self, folder: str, keys: Sequence[str], *, is_aside: bool) -> None:
        # A note, and a row, name the place that a file was set aside from.
        places = {key.removeprefix(f"{_ASIDE.partition('/')[0]}/"): key for key in keys}
        with self._sessions() as session:
            statement = _UNNOTED if is_aside else _UNNAMED
            unnamed: list[str] = list(session.scalars(statement, {"keys": list(places)}))
        old = set(self._old([places[one] for one in unnamed]))
        gone = [one for one in unnamed if places[one] in old]
        self._let_go(folder, gone, is_aside=is_aside)

    def _let_go(self, folder: str, keys: Sequence[str], *, is_aside: bool) -> None:
        if keys and self._deletes:
            values = {"keys": keys, "tenant_id": _tenant(folder), "is_aside": is_aside}
            with self._sessions.begin() as session:
                session.execute(_NOTE, values)
        for one in keys:
            self._count(one)

    def _old(self, keys: Sequence[str]) -> Iterator[str]:
        for key in keys:
            age_seconds = self._files.age_seconds(key)
            if age_seconds is not None and age_seconds > self._older_than_seconds:
                yield key

    def _count(self, key: str) -> None:
        self.found += 1
        self.example = key
        self._tell(key)


def _tenant(folder: str) -> UUID:
    return _uuid(folder) or NO_TENANT


def _uuid(key: str) -> UUID | None:
    """The id that a key ends with, if it is one."""
    try:
        return UUID(key.rpartition("/")[2])
    except ValueError:
        return None
