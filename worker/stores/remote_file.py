"""A stored file that is fetched while it is read: the storage can go away in the middle."""

import io
from typing import BinaryIO, cast

from fsspec import AbstractFileSystem
from fsspec.spec import AbstractBufferedFile

from shared.submitting.storage_failures import storage_failures

_PIECE_BYTES = 1 << 20


def reading(file: BinaryIO, filesystem: AbstractFileSystem) -> BinaryIO:
    """An opened file; one that is fetched piece by piece says in our errors what stopped it."""
    if not isinstance(file, AbstractBufferedFile):
        return file
    return cast(BinaryIO, io.BufferedReader(_Fetched(file, filesystem), _PIECE_BYTES))


class _Fetched(io.RawIOBase):
    def __init__(self, file: BinaryIO, filesystem: AbstractFileSystem) -> None:
        self._file = file
        self._filesystem = filesystem

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        with storage_failures(self._filesystem):
            piece = self._file.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()
