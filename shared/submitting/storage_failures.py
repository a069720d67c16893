"""What the file storage raises, as our own errors: it says which storage, and the way out."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from fsspec import AbstractFileSystem
from fsspec.implementations.dirfs import DirFileSystem

from shared.errors import ServiceUnavailable, StorageFull
from shared.settings.endpoints import masked

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
#: What clients of remote storages raise beside ``OSError``, by the module that has it.
_REMOTE = {"botocore.exceptions": ("BotoCoreError", "ClientError"), "aiohttp": ("ClientError",)}


@contextmanager
def storage_failures(filesystem: AbstractFileSystem) -> Iterator[None]:
    """Translate what the block's calls of a storage raise.

    Raises:
        StorageFull: (transient) there is no room.
        ServiceUnavailable: (transient) the storage does not answer, or refuses.
    """
    try:
        yield
    except storage_errors() as error:
        raise storage_failure(error, filesystem) from error


def storage_errors() -> tuple[type[Exception], ...]:
    """What calls of a storage raise; of a remote one only once its client is imported."""
    loaded = [(sys.modules[one], names) for one, names in _REMOTE.items() if one in sys.modules]
    return (OSError, *(getattr(module, name) for module, names in loaded for name in names))


def storage_failure(error: Exception, filesystem: AbstractFileSystem) -> ServiceUnavailable:
    """What a storage's error is to whoever reads it."""
    return disk_failure(error, f"the storage {_address(filesystem)}", "STORAGE_URL")


def disk_failure(error: Exception, what: str, variable: str) -> ServiceUnavailable:
    """What the error of a place for files is to whoever reads it.

    Args:
        error: as it was raised.
        what: the place, by kind and address.
        variable: names the setting that says where the place is.
    """
    if isinstance(error, OSError) and error.errno in _FULL:
        way_out = f"make room there, or move it and set {variable}"
        return StorageFull(f"{what} is full ({error.strerror}): {way_out}")
    return ServiceUnavailable(f"{what} does not answer: {error}; see {variable}")


def _address(filesystem: AbstractFileSystem) -> str:
    if isinstance(filesystem, DirFileSystem):
        return masked(str(filesystem.fs.unstrip_protocol(filesystem.path)))
    return masked(str(filesystem.unstrip_protocol("")))
