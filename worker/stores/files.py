"""Uploaded files by storage key.

A file that nobody uses any more is set aside first, and found there as long as it is:
a producer that stored the same content a moment before, and submits it a moment
after, loses nothing.
"""

from contextlib import suppress
from datetime import UTC, datetime
from typing import BinaryIO
from uuid import uuid4

from fsspec import AbstractFileSystem

from shared.errors import UnreadableFile
from shared.submitting.storage_failures import (
    storage_errors,
    storage_failure,
    storage_failures,
)
from worker.stores.remote_file import reading


class StoredFiles:
    """Files under the storage's root."""

    def __init__(self, filesystem: AbstractFileSystem) -> None:
        self._filesystem = filesystem

    def open(self, key: str) -> BinaryIO:
        """Open for reading.

        Raises:
            UnreadableFile: (permanent) there is no such file.
            ServiceUnavailable: (transient) the storage does not answer.
        """
        try:
            try:
                return self._opened(key)
            except FileNotFoundError:
                self._bring_back(key)
                return self._opened(key)
        except FileNotFoundError:
            raise UnreadableFile(
                f"the stored file {key} is gone: upload the document again"
            ) from None
        except storage_errors() as error:
            raise storage_failure(error, self._filesystem) from error

    def write(self, key: str, content: bytes) -> None:
        """Write a file whole, or not at all; done twice it is the second one.

        Raises:
            StorageFull: (transient) the storage has no room for it.
            ServiceUnavailable: (transient) the storage does not answer.
        """
        draft = f"{key}.{uuid4()}.draft"
        try:
            self._filesystem.makedirs(key.rpartition("/")[0], exist_ok=True)
            with self._filesystem.open(draft, "wb") as file:
                file.write(content)
            self._filesystem.mv(draft, key)
        except storage_errors() as error:
            # Least of all a full disk shall keep half a file for each attempt.
            with suppress(*storage_errors()):
                self._filesystem.rm_file(draft)
            raise storage_failure(error, self._filesystem) from error

    def set_aside(self, key: str) -> None:
        """Take a file out of its place; done twice it does nothing the second time.

        Raises:
            ServiceUnavailable: (transient) the storage does not answer.
        """
        aside = _aside(key)
        with storage_failures(self._filesystem), suppress(FileNotFoundError):
            self._filesystem.makedirs(aside.rpartition("/")[0], exist_ok=True)
            self._filesystem.mv(key, aside)

    def bring_back(self, key: str) -> None:
        """Put a file that was set aside into its place, unless one is there.

        Raises:
            ServiceUnavailable: (transient) the storage does not answer.
        """
        with storage_failures(self._filesystem), suppress(FileNotFoundError):
            if not self._filesystem.exists(key):
                self._bring_back(key)

    def discard(self, key: str) -> None:
        """Delete a file that was set aside, for good; done twice likewise.

        Raises:
            ServiceUnavailable: (transient) the storage does not answer.
        """
        with storage_failures(self._filesystem), suppress(FileNotFoundError):
            self._filesystem.rm_file(_aside(key))

    def folders(self, folder: str) -> list[str]:
        """The folders directly in a folder, in order; none when there is no such folder.

        Raises:
            ServiceUnavailable: (transient) the storage does not answer.
        """
        return self._listed(folder, "directory")

    def files(self, folder: str) -> list[str]:
        """The keys of the files directly in a folder, in order.

        Raises:
            ServiceUnavailable: (transient) the storage does not answer.
        """
        return self._listed(folder, "file")

    def is_there(self, key: str) -> bool:
        """Whether ``open`` finds a file, in its place or set aside.

        Raises:
            ServiceUnavailable: (transient) the storage does not answer.
        """
        try:
            return bool(self._filesystem.exists(key) or self._filesystem.exists(_aside(key)))
        except storage_errors() as error:
            raise storage_failure(error, self._filesystem) from error

    def age_seconds(self, key: str) -> float | None:
        """Since a file was written, by the storage's clock; ``None`` when nobody knows.

        Raises:
            ServiceUnavailable: (transient) the storage does not answer.
        """
        try:
            written: datetime = self._filesystem.modified(key)
        except (FileNotFoundError, NotImplementedError):
            return None
        except storage_errors() as error:
            raise storage_failure(error, self._filesystem) from error
        aware = written if written.tzinfo is not None else written.replace(tzinfo=UTC)
        return (datetime.now(UTC) - aware).total_seconds()

    def delete(self, key: str) -> None:
        """Delete a file for good; done twice it does nothing the second time.

        Raises:
            ServiceUnavailable: (transient) the storage does not answer.
        """
        with storage_failures(self._filesystem), suppress(FileNotFoundError):
            self._filesystem.rm_file(key)

    def _listed(self, folder: str, kind: str) -> list[str]:
        try:
            # Fresh: what some storages remember of a folder is as old as this process.
            found = self._filesystem.ls(folder, detail=True, refresh=True)
        except FileNotFoundError:
            return []
        except storage_errors() as error:
            raise storage_failure(error, self._filesystem) from error
        return sorted(one["name"] for one in found if one["type"] == kind)

    def _opened(self, key: str) -> BinaryIO:
        return reading(self._filesystem.open(key, "rb"), self._filesystem)

    def _bring_back(self, key: str) -> None:
        self._filesystem.mv(_aside(key), key)


def _aside(key: str) -> str:
    return f"removed/{key}"
