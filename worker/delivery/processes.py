"""Processes that are told apart although their ids are given out again."""

import psutil

#: How far a host's clock may be set between two readings of one process's creation.
_CLOCK_SECONDS = 5.0


def running(pid: int, created: float) -> psutil.Process | None:
    """The process of this host with this id that was made then, while it runs.

    Args:
        pid: its id.
        created: when it was made, in seconds of the host's clock.
    """
    try:
        found = psutil.Process(pid)
        is_same = abs(found.create_time() - created) < _CLOCK_SECONDS
        return found if is_same and found.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None
