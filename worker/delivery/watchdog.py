"""A real operating system thread that looks after the work, whatever the pool does.

It goes on while gevent's hub is blocked, while the main thread computes, and while
every thread of a pool waits. Only C code that keeps the GIL holds it up.
"""

import json
import os
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from gevent import monkey

from shared.queueing.task_context import TaskContext
from shared.settings.redaction import redacted

STDERR = 2


class Watchdog:
    """Calls ``check`` every ``period_seconds``, in one real thread per process.

    Under gevent ``check`` runs outside of every greenlet: it must use neither
    patched locks nor connections of the greenlets. Logging is such a lock: a record
    made here waits for ever when a greenlet holds a handler's lock and another one
    blocks the hub. So failures of ``check`` go to standard error by themselves.
    """

    def __init__(self, period_seconds: float, check: Callable[[], None]) -> None:
        self._period_seconds = period_seconds
        self._check = check
        # By process: a forked child finds nothing under its own id and starts its own.
        self._stops: dict[int, Any] = {}

    def ensure_running(self) -> None:
        """Start the thread of this process unless it runs; cheap, call it at each task's start."""
        process_id = os.getpid()
        if process_id in self._stops:
            return
        stop = monkey.get_original("_thread", "allocate_lock")()
        stop.acquire()
        # No lock: a fork could copy it locked. One of several callers wins.
        if self._stops.setdefault(process_id, stop) is stop:
            monkey.get_original("_thread", "start_new_thread")(self._watch, (stop,))

    def stop(self) -> None:
        """End the thread of this process, after the check it may be in."""
        stop = self._stops.pop(os.getpid(), None)
        if stop is not None:
            stop.release()

    def _watch(self, stop: Any) -> None:
        while not stop.acquire(timeout=self._period_seconds):
            try:
                self._check()
            except Exception:  # noqa: BLE001 - the next check may find what this one did not
                tell("watchdog.failed", "the watchdog's check failed", traceback.format_exc())


def tell(
    action: str,
    message: str,
    traceback_text: str | None = None,
    context: TaskContext | None = None,
) -> None:
    """Write one line of JSON to standard error, without the locks that logging takes."""
    record = {
        "time": datetime.now(UTC).isoformat(),
        "level": "ERROR",
        "logger": __name__,
        "message": redacted(message),
        "action": action,
        **(context.fields() if context is not None else {}),
    }
    if traceback_text:
        record["exc_info"] = redacted(traceback_text)
    os.write(STDERR, json.dumps(record).encode() + b"\n")
