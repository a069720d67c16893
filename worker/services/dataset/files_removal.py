"""Files that no document and no import needs leave the storage: set aside first, deleted later.

A producer stores a file before its transaction, so a file that nobody uses may be
one that is about to be used. What was set aside is found all the same, and comes
back when somebody submitted it meanwhile.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from worker.delivery import runs

_BATCH = 200

_LOCK = text("""
    SELECT upload_files.id FROM removals JOIN upload_files ON upload_files.id = upload_file_id
    WHERE removals.id = ANY(CAST(:ids AS uuid[]))
    ORDER BY upload_files.id FOR UPDATE OF upload_files
""")
_DELETE = text("""
    DELETE FROM upload_files
    WHERE id = ANY(CAST(:ids AS uuid[]))
      AND NOT EXISTS (SELECT 1 FROM documents WHERE upload_file_id = upload_files.id)
      AND NOT EXISTS (
          SELECT 1 FROM segment_imports
          WHERE upload_file_id = upload_files.id AND status <> 'completed'
      )
    RETURNING storage_key
""")
_DONE = text("DELETE FROM removals WHERE id = ANY(CAST(:ids AS uuid[]))")
_STORED = text("""
    SELECT id FROM removals WHERE kind = 'stored_file' AND storage_key = ANY(:keys)
      AND retired_at IS NULL
""")
_DUE = text("""
    SELECT id, kind FROM removals
    WHERE kind IN ('upload_file', 'stored_file') AND due_at <= now()
    ORDER BY due_at LIMIT :limit
""")
_FILES = text("""
    SELECT id, storage_key, retired_at IS NOT NULL AS is_aside,
           EXISTS (
               SELECT 1 FROM upload_files WHERE upload_files.storage_key = removals.storage_key
           ) AS is_used
    FROM removals
    WHERE id = ANY(CAST(:ids AS uuid[])) AND due_at <= now()
""")
_SET_ASIDE = text("""
    UPDATE removals
    SET retired_at = now(), message_id = NULL,
        due_at = now() + make_interval(secs => :grace_seconds)
    WHERE id = :id
""")
_SET_ASIDE_BEFORE = text("""
    DELETE FROM removals WHERE kind = 'stored_file' AND storage_key = :key AND id <> :id
""")


class RemovableFiles(Protocol):
    """The storage, as far as files leave it."""

    def set_aside(self, key: str) -> None:
        """Take a file out of its place.

        Raises:
            ServiceUnavailable: (transient) the storage does not answer.
        """

    def bring_back(self, key: str) -> None:
        """Put a file that was set aside into its place, unless one is there."""

    def discard(self, key: str) -> None:
        """Delete a file that was set aside, for good."""


@dataclass(frozen=True, slots=True)
class _Stored:
    id: UUID
    key: str
    is_aside: bool
    is_used: bool


def remove_due_files(
    sessions: sessionmaker[Session], files: RemovableFiles, grace_seconds: float
) -> None:
    """Go one step on with every noted file whose time has come.

    Raises:
        ServiceUnavailable: (transient) the storage does not answer; the rest is done later.
    """
    done: set[UUID] = set()
    while True:
        runs.checkpoint()
        with sessions() as session:
            due = [row for row in session.execute(_DUE, {"limit": _BATCH}) if row.id not in done]
        if not due:
            return
        done.update(row.id for row in due)
        uploads = [row.id for row in due if row.kind == "upload_file"]
        remove_files(sessions, files, uploads, grace_seconds)
        stored = [row.id for row in due if row.kind == "stored_file"]
        _remove_stored(sessions, files, stored, grace_seconds)


def remove_files(
    sessions: sessionmaker[Session],
    files: RemovableFiles,
    removals: Sequence[UUID],
    grace_seconds: float,
) -> None:
    """Delete the rows of uploaded files that no document has, and set aside what they name.

    Args:
        sessions: makes sessions.
        files: the storage.
        removals: notes of uploaded files.
        grace_seconds: how long a file set aside can be brought back.

    Raises:
        ServiceUnavailable: (transient) the storage does not answer; the rest is done later.
    """
    if not removals:
        return
    with sessions.begin() as session:
        values = {"ids": list(map(str, removals))}
        # First the lock, then the look: a document that takes the file meanwhile has been
        # committed by then, and is seen.
        uploads = [str(one) for one in session.scalars(_LOCK, values)]
        keys = list(session.scalars(_DELETE, {"ids": uploads}))
        session.execute(_DONE, values)
        stored = list(session.scalars(_STORED, {"keys": keys}))
    _remove_stored(sessions, files, stored, grace_seconds)


def _remove_stored(
    sessions: sessionmaker[Session],
    files: RemovableFiles,
    removals: Sequence[UUID],
    grace_seconds: float,
) -> None:
    with sessions() as session:
        rows = session.execute(_FILES, {"ids": list(map(str, removals))}).all()
    for row in rows:
        runs.checkpoint()
        one = _Stored(row.id, row.storage_key, row.is_aside, row.is_used)
        _move(files, one)
        with sessions.begin() as session:
            if one.is_used or one.is_aside:
                session.execute(_DONE, {"ids": [str(one.id)]})
            else:
                session.execute(_SET_ASIDE, {"id": one.id, "grace_seconds": grace_seconds})
                # The same content, stored and removed again: its time begins anew.
                session.execute(_SET_ASIDE_BEFORE, {"id": one.id, "key": one.key})


def _move(files: RemovableFiles, one: _Stored) -> None:
    if one.is_used:
        files.bring_back(one.key)
    elif one.is_aside:
        files.discard(one.key)
    else:
        files.set_aside(one.key)
