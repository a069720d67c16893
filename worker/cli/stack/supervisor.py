"""Runs the processes of a stack and ends them in order.

The usual end is :meth:`Supervisor.stop_all`. When the runner itself is killed, Linux
kills every child with it (see :mod:`worker.cli.stack.children`).
"""

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from shared.errors import ConfigurationError
from worker.cli.stack.children import POLL_SECONDS, kill_group, spawn

_HASTY_GRACE_SECONDS = 1.0
_WATCH_SECONDS = 0.1
_STOPPING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """A process to run.

    Attributes:
        name: What reports call it.
        argv: The command.
        log: The file that receives its output.
        env: Its whole environment; ``None`` inherits ours.
        cwd: Its working folder; ``None`` inherits ours.
        grace_seconds: How long it may take to end after SIGTERM.
    """

    name: str
    argv: Sequence[str]
    log: Path
    env: Mapping[str, str] | None = None
    cwd: Path | None = None
    grace_seconds: float = 10.0


class Supervisor:
    """Starts children and stops them last in, first out.

    As a context manager it turns SIGTERM and SIGHUP into ``KeyboardInterrupt`` and
    stops everything on the way out. Use it from the main thread.
    """

    def __init__(self) -> None:
        self._children: dict[str, tuple[ChildSpec, subprocess.Popen[bytes]]] = {}
        self._watched: dict[str, Callable[[], bool]] = {}
        self._interrupted_at: float | None = None
        self._previous: dict[signal.Signals, signal._HANDLER] = {}

    @property
    def running(self) -> dict[str, int]:
        """The pids of the children that run, by name, in order of start."""
        return {
            name: process.pid
            for name, (_, process) in self._children.items()
            if process.poll() is None
        }

    def start(self, spec: ChildSpec) -> int:
        """Start a child.

        Returns:
            Its pid, which is also the id of its process group.

        Raises:
            ConfigurationError: The name is taken, or the command cannot be executed.
        """
        if spec.name in self.running:
            raise ConfigurationError(f"{spec.name} runs already: stop it or choose another name.")
        # Out and in again: a child started anew stops in its new place.
        if spec.name in self._children:
            kill_group(self._children.pop(spec.name)[1])
        try:
            process = spawn(
                spec.argv,
                log=spec.log,
                env=spec.env,
                cwd=spec.cwd,
                # The servers die with the runner: a worker that stayed to finish its
                # tasks, as SIGTERM would have it, could neither store nor acknowledge them.
                death_signal=signal.SIGKILL,
            )
        except OSError as error:
            raise ConfigurationError(
                f"Cannot start {spec.name} ({error}): check that {spec.argv[0]} is installed."
            ) from error
        self._children[spec.name] = (spec, process)
        return process.pid

    def watch(self, name: str, alive: Callable[[], bool]) -> None:
        """Let ``wait`` report a server somebody else starts and stops."""
        self._watched[name] = alive

    def wait(self, timeout_seconds: float | None = None) -> str | None:
        """Wait for the first child that exits.

        Returns:
            Its name, or ``None`` when the time passed.
        """
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while True:
            gone = self._first_gone()
            if gone is not None or (deadline is not None and time.monotonic() >= deadline):
                return gone
            time.sleep(_WATCH_SECONDS)

    def exit_code(self, name: str) -> int | None:
        """Return a child's exit code, negative for a signal, ``None`` while it runs."""
        return self._children[name][1].poll()

    def stop(self, name: str) -> None:
        """Stop one child: SIGTERM, its grace, then SIGKILL to its process group.

        Raises:
            KeyboardInterrupt: One came meanwhile; it cut the grace short and waited.
        """
        with self._deferred_interrupts():
            self._stop_child(name)

    def stop_all(self) -> None:
        """Stop every child in the reverse order of start.

        Raises:
            KeyboardInterrupt: One came meanwhile; it cut every grace short and waited.
        """
        with self._deferred_interrupts():
            for name in reversed(list(self._children)):
                self._stop_child(name)

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _STOPPING_SIGNALS:
                self._previous[number] = signal.signal(number, _interrupt)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.stop_all()
        except KeyboardInterrupt:
            # Impatience must not hide the error that ended the stack.
            if error is None:
                raise
        finally:
            for number, handler in self._previous.items():
                signal.signal(number, handler)
            self._previous.clear()

    def _first_gone(self) -> str | None:
        for name, (_, process) in self._children.items():
            if process.poll() is not None:
                return name
        return next((name for name, alive in self._watched.items() if not alive()), None)

    def _stop_child(self, name: str) -> None:
        spec, process = self._children[name]
        # To the leader alone: a Celery worker ends its pool itself when the tasks are done.
        process.terminate()
        began = time.monotonic()
        while process.poll() is None and time.monotonic() < self._deadline(began, spec):
            time.sleep(POLL_SECONDS)
        kill_group(process)
        del self._children[name]

    def _deadline(self, began: float, spec: ChildSpec) -> float:
        if self._interrupted_at is None:
            return began + spec.grace_seconds
        hasty = max(began, self._interrupted_at) + _HASTY_GRACE_SECONDS
        return min(began + spec.grace_seconds, hasty)

    @contextmanager
    def _deferred_interrupts(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._interrupted_at = None
        previous = {number: signal.signal(number, self._on_signal) for number in _STOPPING_SIGNALS}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
        if self._interrupted_at is not None:
            raise KeyboardInterrupt

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the hook's shape
        # The first counts: a user who keeps pressing must not prolong the wait.
        self._interrupted_at = self._interrupted_at or time.monotonic()


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the hook's shape
    raise KeyboardInterrupt
