"""Whether this worker is shutting down, known to its main process and every pool child."""

import mmap
import struct
import time

#: Shared with every child forked after this import: the moment on the system-wide
#: monotonic clock at which running tasks hand back their work; 0 while nothing is wrong.
_memory = mmap.mmap(-1, 8)


def begin(grace_seconds: float) -> None:
    """Say that running tasks must hand back their work after the grace; the first call counts."""
    if not is_begun():
        _memory[:8] = struct.pack("d", time.monotonic() + grace_seconds)


def is_begun() -> bool:
    """Whether no new work may be started."""
    return _hand_back_at() != 0


def is_grace_over() -> bool:
    """Whether running work must be handed back."""
    return 0 < _hand_back_at() <= time.monotonic()


def _hand_back_at() -> float:
    moment: float = struct.unpack("d", _memory[:8])[0]
    return moment
