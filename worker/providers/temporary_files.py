"""Files that are gone with the block that needs them; a disk without room for them is named."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedRandom

from shared.submitting.storage_failures import disk_failure


@contextmanager
def temporary_file() -> Iterator[BufferedRandom]:
    """A file without a name; write and read it in ``temporary_file_failures``."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - closed below
    try:
        yield file
    finally:
        # What was not written yet is tried once more here, and nobody needs it now.
        with suppress(OSError):
            file.close()


@contextmanager
def temporary_file_failures() -> Iterator[None]:
    """Translate what the block's calls of a temporary file raise.

    Raises:
        StorageFull: (transient) there is no room.
        ServiceUnavailable: (transient) it cannot be written or read.
    """
    try:
        yield
    except OSError as error:
        what = f"the folder for temporary files, {tempfile.gettempdir()},"
        raise disk_failure(error, what, "TMPDIR") from error
