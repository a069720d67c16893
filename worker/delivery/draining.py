"""What a prefork pool's children still say when nobody waits for their answers any more.

Celery forgets the tasks that no child has accepted before it stops its consumer, and reads
the children's pipes for as long as it remembers a task. A child that had such a task after
all fills its pipe, waits for ever to be read, and the worker for ever for the child.
"""

import os
from contextlib import suppress
from typing import Any

from celery import bootsteps
from celery.concurrency.asynpool import AsynPool

_DRAIN_SECONDS = 0.5
_READ_BYTES = 65536


class Draining(bootsteps.StartStopStep):
    """Reads and drops it from the moment at which the pool is about to be stopped."""

    requires = ("celery.worker.components:Pool",)

    def stop(self, parent: Any) -> None:
        """Begin: the pool's stop follows, and fires the event loop's timers until it is over."""
        pool = getattr(parent.pool, "_pool", None)
        if isinstance(pool, AsynPool) and parent.hub is not None:
            parent.hub.timer.call_repeatedly(_DRAIN_SECONDS, drain, (pool,))


def drain(pool: Any) -> None:
    """Drop what children have written, unless the pool itself still reads it."""
    if pool._cache:  # noqa: SLF001 - a task is waited for
        return
    for process in list(pool._pool):  # noqa: SLF001 - its children
        reader = process.outq._reader  # noqa: SLF001 - the pool's own end
        with suppress(OSError, EOFError):
            while reader.poll(0) and os.read(reader.fileno(), _READ_BYTES):
                pass
