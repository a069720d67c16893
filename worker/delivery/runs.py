"""The tasks this process runs, and what ends each of them from outside.

A run ends early when its deadline passes, when it reports no progress for too
long, when a lease it holds is lost, and when the worker shuts down. It notices by
itself at its next checkpoint; if that is far, the watchdog interrupts it.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeVar

from shared.errors import DeadlineExceeded, RagWorkerError, ShuttingDown, Stalled
from shared.queueing import task_context
from shared.queueing.task_context import TaskContext
from worker.delivery import shutdown
from worker.delivery.interruption import Interruptible, interruptible

#: How long a run that was told to end may take to reach a checkpoint by itself.
PATIENCE_SECONDS = 1.0
#: How long it may take to record its end.
RECORDING_SECONDS = 60.0

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run may take, in seconds.

    Attributes:
        deadline_seconds: from its start to its end.
        stall_seconds: from one checkpoint to the next.
        unstoppable_seconds: from the order to end to the end of its process.
    """

    deadline_seconds: float
    stall_seconds: float
    unstoppable_seconds: float = 15.0


@dataclass(eq=False)
class Run:
    """One task being executed.

    Attributes:
        name: what reports call it: the task's name and id.
        limits: what it may take.
        give_up: records the end of a run that cannot be stopped.
        tenant_id: whose message it is, where that is known.
        is_again: whether an earlier delivery of the message was begun.
    """

    name: str
    limits: Limits
    give_up: Callable[[RagWorkerError], None]
    tenant_id: str | None = None
    is_again: bool = False
    started: float = field(default_factory=time.monotonic)
    progressed: float = field(default_factory=time.monotonic)
    end: RagWorkerError | None = None
    is_end_whole: bool = False
    is_noticed: bool = False
    is_given_up: bool = False
    #: Whose lines those of other threads about it are.
    context: TaskContext | None = field(default_factory=task_context.current)
    _ended_at: float = 0.0
    _flow: Interruptible | None = None

    def part(self, work: Callable[[], Result]) -> Result:
        """Do a part of the run that can be interrupted, and clean up after it uninterrupted.

        Parts nest: the innermost one is interrupted.

        Raises:
            RagWorkerError: why the run has to end; or what ``work`` raises.
        """
        outer, flow = self._flow, interruptible()
        self._flow = flow
        try:
            return flow.run(work)
        finally:
            self._flow = outer
            if self.end is not None:
                self._notice()

    def begin_part(self) -> None:
        """Begin the next of several subjects: limits count anew, and what ended the last is over.

        Raises:
            RagWorkerError: why the whole run has to end.
        """
        self.started = time.monotonic()
        if not self.is_end_whole:
            self.end, self.is_noticed = None, False
        self.checkpoint()

    def checkpoint(self) -> None:
        """Report progress.

        Raises:
            RagWorkerError: why the run has to end.
        """
        self.progressed = time.monotonic()
        self._look()
        if self.end is not None:
            self._notice()
            raise self.end

    def stop(self, reason: RagWorkerError, *, is_whole: bool = False) -> None:
        """Make the run end, or only its current part; the first reason counts."""
        if self.end is None or (is_whole and not self.is_end_whole):
            self.end, self.is_end_whole, self.is_noticed = reason, is_whole, False
            self._ended_at = time.monotonic()

    def enforce(self) -> RagWorkerError | None:
        """Interrupt the run if it has to end.

        Returns:
            The reason, once, when nothing can stop it.
        """
        self._look()
        if self.end is None or self.is_given_up:
            return None
        waited = time.monotonic() - self._ended_at
        if waited >= PATIENCE_SECONDS and not self.is_noticed and self._flow is not None:
            self._flow.interrupt(self.end)
        most = RECORDING_SECONDS if self.is_noticed else self.limits.unstoppable_seconds
        if waited < most:
            return None
        self.is_given_up = True
        return self.end

    def _notice(self) -> None:
        if not self.is_noticed:
            self.is_noticed, self._ended_at = True, time.monotonic()

    def _look(self) -> None:
        now, limits = time.monotonic(), self.limits
        if self.end is not None and self.is_end_whole:
            return
        if shutdown.is_grace_over():
            self.stop(ShuttingDown(), is_whole=True)
        elif now - self.started > limits.deadline_seconds:
            self.stop(
                DeadlineExceeded(f"ended after its deadline of {limits.deadline_seconds:g} s")
            )
        elif now - self.progressed > limits.stall_seconds:
            self.stop(Stalled(f"no progress for {limits.stall_seconds:g} s"))


_current: ContextVar[Run | None] = ContextVar("current_run", default=None)
_runs: set[Run] = set()


def current() -> Run | None:
    """The run of the calling task; ``None`` outside any."""
    return _current.get()


def all_runs() -> list[Run]:
    """Every run of this process."""
    # A copy of a set is one step under the interpreter's lock: the watchdog, a real
    # thread, must not wait for a lock that gevent has made its own.
    return list(_runs.copy())


def number() -> int:
    """How many runs this process has."""
    return len(_runs)


@contextmanager
def running(
    name: str,
    limits: Limits,
    give_up: Callable[[RagWorkerError], None],
    tenant_id: str | None = None,
    *,
    is_again: bool = False,
) -> Iterator[Run]:
    """Make the block a run; what it does in ``part`` can be interrupted."""
    run = Run(name, limits, give_up, tenant_id, is_again)
    _runs.add(run)
    token = _current.set(run)
    try:
        yield run
    finally:
        _runs.discard(run)
        _current.reset(token)


def part(work: Callable[[], Result]) -> Result:
    """Do a part of the calling task; see ``Run.part``."""
    run = _current.get()
    return work() if run is None else run.part(work)


def checkpoint() -> None:
    """Report progress of the calling task, if there is one.

    Raises:
        RagWorkerError: why it has to end now.
    """
    run = _current.get()
    if run is not None:
        run.checkpoint()


def begin_part() -> None:
    """Begin the next subject of the calling task; see ``Run.begin_part``."""
    run = _current.get()
    if run is not None:
        run.begin_part()
