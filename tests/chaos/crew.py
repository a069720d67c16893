"""The processes of a system under test, brought back by a supervisor when they die."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.chaos.subject import Subject
from tests.fixtures.waiting import eventually
from worker.cli.stack.children import kill_group, spawn

ROOT = Path(__file__).parents[2]
_READY_SECONDS = 90


class Crew:
    """Starts a subject's processes; ``tick`` restarts those that died."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.restarts = 0

    def start(self) -> None:
        """Start all and wait until the workers are ready."""
        for name in self._subject.commands:
            self._start(name)
        eventually(self._all_ready, _READY_SECONDS)

    def tick(self) -> None:
        """Do what a process supervisor does all the time."""
        for name, process in self._running.items():
            if process.poll() is not None:
                # As service managers do: nothing of a dead service stays behind.
                kill_group(process)
                self._start(name)
                self.restarts += 1

    def stop(self) -> None:
        """End all."""
        for process in self._running.values():
            kill_group(process)

    def workers(self) -> "list[subprocess.Popen[bytes]]":
        """The workers that run."""
        return [
            process
            for name, process in sorted(self._running.items())
            if name.startswith("worker") and process.poll() is None
        ]

    def others(self) -> "list[subprocess.Popen[bytes]]":
        """What runs beside the workers."""
        return [
            process
            for name, process in sorted(self._running.items())
            if not name.startswith("worker") and process.poll() is None
        ]

    def pool_children(self) -> list[psutil.Process]:
        """The processes that run tasks, of all workers."""
        found = []
        for worker in self.workers():
            with _vanishing():
                found += [
                    child
                    for child in psutil.Process(worker.pid).children()
                    if os.getpgid(child.pid) == worker.pid
                ]
        return sorted(found, key=lambda child: child.pid)

    def _start(self, name: str) -> None:
        self._running[name] = spawn(
            [sys.executable, "-m", *self._subject.commands[name]],
            log=self._subject.folder / f"{name}.log",
            death_signal=signal.SIGKILL,
            env={**os.environ, "PYTHONPATH": str(ROOT), **self._subject.variables},
            cwd=self._subject.folder,
        )

    def _all_ready(self) -> bool:
        for name, process in self._running.items():
            log = (self._subject.folder / f"{name}.log").read_text(errors="replace")
            assert process.poll() is None, f"{name} ended: {log[-2000:]}"
            if name.startswith("worker") and " ready." not in log:
                return False
        return True


@contextmanager
def _vanishing() -> Iterator[None]:
    try:
        yield
    except (psutil.NoSuchProcess, ProcessLookupError):
        return
