"""Uploaded files by storage key."""

from typing import BinaryIO

from fsspec import AbstractFileSystem

from shared.errors import ServiceUnavailable, UnreadableFile


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
            file: BinaryIO = self._filesystem.open(key, "rb")
        except FileNotFoundError:
            raise UnreadableFile(
                f"the stored file {key} is gone: upload the document again"
            ) from None
        except OSError as error:
            raise ServiceUnavailable(f"the storage does not open {key}: {error}") from error
        return file
