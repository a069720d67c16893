"""Workers that compete: each on a database of its own of one Valkey, measured from outside.

The contenders are up side by side, and the idle ones wait while one works. Messages are
published by the contender's own call, where no worker looks; each round puts them, or a
copy, where its worker does. A rate is how fast the messages that wait and those under way
become none, from a tenth of the work done to its end.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import psutil
import redis
from celery import Celery

from benchmarks.noop import QUEUE, plain_app
from benchmarks.rig import Rig
from worker.cli.stack.children import kill_group, spawn

PATIENCE_SECONDS = 180.0
_POLL_SECONDS = 0.01
#: Up to here a worker may still be warming up.
_STARTED = 0.1
#: The least and the most tasks of a round.
_FIRST_TASKS, _MOST_TASKS = 100, 5000
#: The database for what is published and not yet to be worked on.
SHELF = 15


@dataclass(frozen=True, slots=True)
class Rate:
    """What one round gave.

    Attributes:
        per_second: tasks ended.
        cpu_milliseconds: of the worker's processes, a task.
    """

    per_second: float
    cpu_milliseconds: float


class Contender:
    """A worker of some kind, in a process group of its own.

    Attributes:
        is_used_up: whether what was published can be worked on only once.

    Args:
        rig: the servers.
        number: the broker's database that is the worker's.
        command: starts the worker.
        environment: of the worker.
    """

    is_used_up = False

    def __init__(
        self, rig: Rig, number: int, command: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        self.number = number
        self.shelf = redis.Redis.from_url(rig.broker_of(SHELF))
        self.client: Any = redis.Redis.from_url(rig.broker_of(number))
        self.log = rig.folder / f"{uuid4().hex}.log"
        self.process = spawn(
            command, log=self.log, death_signal=signal.SIGKILL, env=dict(os.environ | environment)
        )

    def publish(self, task: str, arguments: Sequence[tuple[Any, ...]]) -> str:
        """Publish the messages where no worker looks; gives the name they are kept under."""
        raise NotImplementedError

    def release(self, kept: str) -> None:
        """Put what was published where the worker looks."""
        raise NotImplementedError

    def left(self) -> int:
        """Messages that wait, and those under way."""
        raise NotImplementedError

    def await_ready(self) -> None:
        """Wait until it answers, where it can be asked."""

    def run(self, kept: str, tasks: int) -> Rate:
        """Have it do what was published; how fast it did."""
        used = processor_seconds(self.process.pid)
        self.release(kept)
        deadline, began, left_then = time.monotonic() + PATIENCE_SECONDS, 0.0, 0
        while left := self.left():
            if not began and left <= tasks * (1 - _STARTED):
                began, left_then = time.monotonic(), left
            self.require_alive(deadline)
            time.sleep(_POLL_SECONDS)
        ended = time.monotonic()
        if not began:
            raise RuntimeError(f"{tasks} tasks are too few to measure")
        used = processor_seconds(self.process.pid) - used
        return Rate(left_then / (ended - began), 1000 * used / tasks)

    def require_alive(self, deadline: float) -> None:
        """See to it that there is something to wait for.

        Raises:
            RuntimeError: the worker ended, or the time is over.
        """
        if self.process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"a worker ended or stands:\n{self.log.read_text()[-3000:]}")

    def stop(self) -> None:
        """Kill it, with its children."""
        self.client.close()
        self.shelf.close()
        kill_group(self.process)


class CeleryWorker(Contender):
    """rag-worker or plain Celery, and the application that publishes to it.

    Args:
        rig: the servers.
        pool: Celery's name of it.
        concurrency: of the pool.
        results: ``None`` for rag-worker; else plain Celery's, see ``plain_app``.
        number: the broker's database.
        host: where the worker believes to be; this machine, when unset.
    """

    def __init__(
        self,
        rig: Rig,
        pool: str,
        concurrency: int,
        *,
        results: str | None = None,
        number: int = 0,
        host: str | None = None,
    ) -> None:
        broker = rig.broker_of(number)
        module, environment = "benchmarks.noop_ours", {"CELERY_BROKER_URL": broker}
        self.celery: Celery = rig.app.extensions["celery"]
        if results is not None:
            module = "benchmarks.noop_plain"
            environment = {"BENCHMARK_BROKER": broker, "BENCHMARK_RESULTS": results}
            self.celery = plain_app(broker, results)
        if host is not None:
            environment["BENCHMARK_HOST"] = host
        self.name = f"bench-{uuid4().hex[:6]}@{host or 'test'}"
        self._broker = broker
        self._shelf_url = rig.broker_of(SHELF)
        command = [sys.executable, "-m", "celery", "-A", module, "worker", "-P", pool]
        command += ["-c", str(concurrency), "-Q", QUEUE, "-l", "WARNING", "-n", self.name]
        command += ["--without-gossip", "--without-mingle"]
        super().__init__(rig, number, command, environment)

    def await_ready(self) -> None:
        """Wait until it answers."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        # An application asks on its own broker only, and rag-worker's may be another one.
        control = Celery("asks", broker=self._broker, set_as_current=False).control
        while not control.ping(destination=[self.name], timeout=0.5):
            self.require_alive(deadline)

    def publish(self, task: str, arguments: Sequence[tuple[Any, ...]]) -> str:
        """By ``apply_async``."""
        called, kept = self.celery.tasks[task], f"{self.name}-{task}"
        with (
            self.celery.connection_for_write(self._shelf_url) as connection,
            self.celery.amqp.Producer(connection) as producer,
        ):
            for one in arguments:
                called.apply_async(one, producer=producer)
        self.shelf.rename(QUEUE, kept)
        return kept

    def release(self, kept: str) -> None:
        """A copy of them: the same messages can be worked on again."""
        self.shelf.copy(kept, QUEUE, destination_db=str(self.number))

    def left(self) -> int:
        """By the keys of kombu's transport."""
        waiting, under_way = self.client.pipeline().llen(QUEUE).hlen("unacked").execute()
        return int(waiting) + int(under_way)


class Load:
    """Tasks of one kind for one contender, as many as it does in a round.

    Args:
        contender: ready to work; it does some tasks first, for imports and connections.
        task: the name of one that takes a number.
        seconds: about the length of a round.
    """

    def __init__(self, contender: Contender, task: str, seconds: float = 2.0) -> None:
        self._contender, self._task = contender, task
        self._tasks, self._kept = 0, ""
        for tried in (_FIRST_TASKS, 3 * _FIRST_TASKS):
            self._tasks, self._kept = tried, ""
            rate = self.run().per_second
        self._tasks, self._kept = max(_FIRST_TASKS, min(_MOST_TASKS, int(seconds * rate))), ""

    @property
    def tasks(self) -> int:
        """How many a round has."""
        return self._tasks

    def run(self) -> Rate:
        """Have it do a round."""
        if self._contender.is_used_up or not self._kept:
            numbers = [(number,) for number in range(self._tasks)]
            self._kept = self._contender.publish(self._task, numbers)
        return self._contender.run(self._kept, self._tasks)


@contextmanager
def ready(started: Mapping[str, Contender]) -> Iterator[None]:
    """Wait until all are ready; kill them at the end."""
    try:
        for one in started.values():
            one.await_ready()
        yield
    finally:
        for one in started.values():
            one.stop()


def processor_seconds(pid: int) -> float:
    """What a process and its children have used, in user and system mode."""
    process, seconds = psutil.Process(pid), 0.0
    for one in [process, *process.children(recursive=True)]:
        with suppress(psutil.Error):
            # The last two are those of children that have ended.
            seconds += sum(one.cpu_times()[:4])
    return seconds
