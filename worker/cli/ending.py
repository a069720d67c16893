"""Ends a worker that may not react: gently first, then surely."""

import time
from contextlib import suppress

import psutil

#: What a worker needs beyond the grace of its tasks, to end its pool and close its connections.
CLOSING_SECONDS = 10.0
_POLL_SECONDS = 0.1
_KILLED_SECONDS = 10.0


def end_worker(process: psutil.Process | None, grace_seconds: float) -> str:
    """End a worker of this host: SIGTERM, then SIGKILL to it and all its children.

    Its tasks are handed back if it can still do that, and taken over when their
    leases have run out if it cannot.

    Args:
        process: its main process; ``None`` when it has ended.
        grace_seconds: what it gets to end by itself; nothing when it is stopped (SIGSTOP).

    Returns:
        What happened, as the rest of a sentence.
    """
    if process is None:
        return "is gone already"
    family = _family(process)
    with suppress(psutil.NoSuchProcess):
        process.terminate()
    if _ended(process, grace_seconds):
        _kill(family)
        return "has ended after SIGTERM"
    _kill(_family(process) or family)
    _, left = psutil.wait_procs([process], _KILLED_SECONDS)
    # The first process of a container is out of reach from inside it.
    return "does not end: end its container" if left and _runs(process) else "was killed"


def _family(process: psutil.Process) -> list[psutil.Process]:
    """The process, and then what it started: those must not be replaced while they are killed."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _ended(process: psutil.Process, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while _runs(process):
        if time.monotonic() > deadline or _is_stopped(process):
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _runs(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _is_stopped(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.status() == psutil.STATUS_STOPPED
    return False


def _kill(family: list[psutil.Process]) -> None:
    for one in family:
        with suppress(psutil.NoSuchProcess):
            one.kill()
