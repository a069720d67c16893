"""RQ and Dramatiq with results, as their documentation has them, on the same Valkey."""

import os
import sys
from collections.abc import Sequence
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from rq import Queue

from benchmarks.queue_workers import SHELF, Contender
from benchmarks.rig import Rig
from benchmarks.work import nothing

_QUEUE = "bench"
_KEYS = (f"dramatiq:{_QUEUE}", f"dramatiq:{_QUEUE}.msgs")

broker: Any = RedisBroker(url=os.environ.get("BENCHMARK_BROKER", "redis://"))
broker.add_middleware(Results(backend=RedisBackend(client=broker.client)))
dramatiq.set_broker(broker)
stored = dramatiq.actor(nothing, broker=broker, queue_name=_QUEUE, store_results=True)


class DramatiqWorker(Contender):
    """Dramatiq: processes of one thread, or one process of greenlets."""

    def __init__(self, rig: Rig, pool: str, concurrency: int, number: int) -> None:
        self._shelf_url = rig.broker_of(SHELF)
        program = "dramatiq-gevent" if pool == "gevent" else "dramatiq"
        processes, threads = (1, concurrency) if pool == "gevent" else (concurrency, 1)
        command = [os.path.join(os.path.dirname(sys.executable), program), __name__]  # noqa: PTH118, PTH120
        command += ["-p", str(processes), "-t", str(threads)]
        super().__init__(rig, number, command, {"BENCHMARK_BROKER": rig.broker_of(number)})

    def publish(self, task: str, arguments: Sequence[tuple[Any, ...]]) -> str:
        """By ``send``."""
        shelf = RedisBroker(url=self._shelf_url)
        for one in arguments:
            shelf.enqueue(stored.message(*one))
        for key in _KEYS:
            self.shelf.rename(key, f"{task}-{key}")
        return task

    def release(self, kept: str) -> None:
        """The messages first: an id without one is dropped."""
        for key in reversed(_KEYS):
            self.shelf.copy(f"{kept}-{key}", key, destination_db=str(self.number))

    def left(self) -> int:
        """A message goes when it is acknowledged, after its result is stored."""
        return int(self.client.hlen(_KEYS[1]))


class RqWorkers(Contender):
    """RQ's pool of workers, each of which forks for a job."""

    is_used_up = True

    def __init__(self, rig: Rig, concurrency: int, number: int) -> None:
        command = [os.path.join(os.path.dirname(sys.executable), "rq"), "worker-pool", _QUEUE]  # noqa: PTH118, PTH120
        command += ["-n", str(concurrency), "-u", rig.broker_of(number), "-q"]
        super().__init__(rig, number, command, {})
        self._done, self._expected = 0, 0

    def publish(self, task: str, arguments: Sequence[tuple[Any, ...]]) -> str:
        """By ``enqueue``, under a queue's name that no worker has."""
        queue = Queue(task, connection=self.client)
        for one in arguments:
            queue.enqueue(nothing, *one)
        self._expected = len(arguments)
        return task

    def release(self, kept: str) -> None:
        """A job is worked on once: they are gone afterwards."""
        self.client.delete(f"rq:finished:{kept}")
        self.client.rename(f"rq:queue:{kept}", f"rq:queue:{_QUEUE}")

    def left(self) -> int:
        """A job is finished when its result is stored."""
        return self._expected - sum(
            int(self.client.zcard(key)) for key in self.client.scan_iter("rq:finished:*")
        )
