"""Rows that name a file which the storage does not have: what a lost disk, or a hand, took."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import Row, TextClause, text
from sqlalchemy.orm import Session, sessionmaker

from worker.delivery import runs

_BATCH = 500

# By key, so that the rows of a folder come one after the other.
_UPLOADS = text("""
    SELECT id, storage_key AS key, name FROM upload_files
    WHERE (storage_key, id) > (:key, CAST(:id AS uuid))
    ORDER BY storage_key, id LIMIT :limit
""")
_TRACES = text("""
    SELECT id, storage_key AS key, '' AS name FROM trace_deliveries
    WHERE id > :id AND storage_key IS NOT NULL
    ORDER BY id LIMIT :limit
""")
_STANDS = {
    "upload_file": text("SELECT storage_key FROM upload_files WHERE id = :id"),
    "trace_delivery": text("SELECT storage_key FROM trace_deliveries WHERE id = :id"),
}


class FoundFiles(Protocol):
    """The storage, as far as it says whether a file is there."""

    def files(self, folder: str) -> list[str]:
        """The keys of the files directly in a folder, in order.

        Raises:
            ServiceUnavailable: (transient) the storage does not answer.
        """

    def is_there(self, key: str) -> bool:
        """Whether a file can be opened, set aside or not.

        Raises:
            ServiceUnavailable: (transient) the storage does not answer.
        """


@dataclass(frozen=True, slots=True)
class MissingFile:
    """A row without its file.

    Attributes:
        kind: ``upload_file`` or ``trace_delivery``.
        id: the row's.
        key: where the file should be.
        name: as its user knows it.
    """

    kind: str
    id: UUID
    key: str
    name: str


def missing_files(sessions: sessionmaker[Session], files: FoundFiles) -> Iterator[MissingFile]:
    """Look through all rows that name a file.

    Memory follows the largest folder of uploaded files, and the storage is asked once for each.

    Raises:
        ServiceUnavailable: (transient) the storage does not answer.
    """
    folder, listed = "", frozenset[str]()
    for row in _rows(sessions, _UPLOADS):
        own = row.key.rpartition("/")[0]
        if own != folder:
            folder, listed = own, frozenset(files.files(own))
        if row.key not in listed and not files.is_there(row.key):
            yield from _still(sessions, MissingFile("upload_file", row.id, row.key, row.name))
    for row in _rows(sessions, _TRACES):
        if not files.is_there(row.key):
            yield from _still(sessions, MissingFile("trace_delivery", row.id, row.key, row.name))


def _rows(sessions: sessionmaker[Session], statement: TextClause) -> Iterator[Row[Any]]:
    key, id_ = "", UUID(int=0)
    while True:
        runs.checkpoint()
        with sessions() as session:
            values = {"key": key, "id": id_, "limit": _BATCH}
            page = session.execute(statement, values).all()
        yield from page
        if len(page) < _BATCH:
            return
        key, id_ = page[-1].key, page[-1].id


def _still(sessions: sessionmaker[Session], missing: MissingFile) -> Iterator[MissingFile]:
    """It, unless its row has left with its file since it was read."""
    with sessions() as session:
        if session.scalar(_STANDS[missing.kind], {"id": missing.id}) == missing.key:
            yield missing
