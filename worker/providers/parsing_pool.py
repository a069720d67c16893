"""The parsing children of one worker process: few, reused, never shared with a fork."""

import os
import queue
import threading
import weakref
from collections.abc import Callable

from worker.providers.parsing_process import ParsingProcess

_WAIT_SECONDS = 0.05

Start = Callable[[ParsingProcess], None]


class ParsingPool:
    """Lends children out, one to each caller, and makes callers wait for the last one.

    The children it counts are those that exist: there is no number that an exception
    between two instructions could leave wrong.
    """

    def __init__(self, max_children: int, start: Start) -> None:
        """Make an empty pool.

        Args:
            max_children: how many there may be at once.
            start: makes a reserved child ready for its first file.
        """
        self._max_children = max_children
        self._start = start
        self._forget()
        _pools.add(self)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[ParsingProcess] = []
        self._known: list[weakref.ref[ParsingProcess]] = []
        self._news: queue.SimpleQueue[None] = queue.SimpleQueue()

    def take(self) -> ParsingProcess:
        """Wait for a child that is free and alive; kill it or give it back.

        Raises:
            RagWorkerError: what ``start`` raised.
        """
        while True:
            process = self._reserved()
            if process is None:
                self._await_news()
                continue
            if not process.is_started:
                self._started(process)
            return process

    def _reserved(self) -> ParsingProcess | None:
        with self._lock:
            while self._idle:
                process = self._idle.pop()
                # An idle child has nothing to say: it died, and should not be this file's fault.
                if not process.is_over and not process.connection.says_more(0):
                    return process
                process.kill()
            self._known = [ref for ref in self._known if _is_alive(ref())]
            if len(self._known) >= self._max_children:
                return None
            process = ParsingProcess()
            self._known.append(weakref.ref(process))
            return process

    def _await_news(self) -> None:
        # News may be taken by another, and a lost child is none: look again anyhow.
        try:
            self._news.get(timeout=_WAIT_SECONDS)
        except queue.Empty:
            return

    def _started(self, process: ParsingProcess) -> None:
        try:
            self._start(process)
        except BaseException:
            self.discard(process)
            raise

    def give_back(self, process: ParsingProcess) -> None:
        """Lend it to the next caller."""
        self._idle.append(process)
        self._tell()

    def discard(self, process: ParsingProcess) -> None:
        """Kill it and make room for another."""
        process.kill()
        self._tell()

    def _tell(self) -> None:
        if self._news.empty():
            self._news.put(None)

    def close(self) -> None:
        """Kill the children that have nothing to do."""
        while self._idle:
            self._idle.pop().kill()

    def leave_to_parent(self, null: int) -> None:
        """In a forked process: begin anew, without the parent's children."""
        for process in [*self._idle, *(ref() for ref in self._known)]:
            if process is not None:
                process.abandon(null)
        self._forget()


def _is_alive(process: ParsingProcess | None) -> bool:
    return process is not None and not process.is_over


_pools: "weakref.WeakSet[ParsingPool]" = weakref.WeakSet()


def _forked() -> None:
    pools = list(_pools)
    if not pools:
        return
    null = os.open(os.devnull, os.O_RDWR)
    for pool in pools:
        pool.leave_to_parent(null)
    os.close(null)


os.register_at_fork(after_in_child=_forked)
