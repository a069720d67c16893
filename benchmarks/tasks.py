"""No-op tasks per second: rag-worker's whole way of a message, against plain Celery's.

``python -m benchmarks tasks``: for each pool a worker of rag-worker and one of plain Celery
with the same settings, on the same broker, without a result backend; see ``benchmarks.noop``
and ``benchmarks.queue_workers``.
"""

from collections.abc import Iterator

from benchmarks.noop import NOTHING
from benchmarks.queue_workers import CeleryWorker, Load, ready
from benchmarks.report import OURS, Figure, compared, rounds
from benchmarks.rig import Rig, rig

POOLS = {"prefork": 2, "gevent": 50, "threads": 10}
PLAIN = "plain Celery"
TARGET = 0.95
#: Of each pool's time, for the start of its workers and their first tasks.
_START_SECONDS = 12


def figures(budget_seconds: float) -> Iterator[Figure]:
    """Rates by pool."""
    with rig() as servers:
        for pool, concurrency in POOLS.items():
            yield from _of_pool(servers, pool, concurrency, budget_seconds / len(POOLS))


def _of_pool(servers: Rig, pool: str, concurrency: int, budget_seconds: float) -> Iterator[Figure]:
    started = {
        PLAIN: CeleryWorker(servers, pool, concurrency, results="none", number=1),
        OURS: CeleryWorker(servers, pool, concurrency),
    }
    runs: dict[str, list[float]] = {name: [] for name in started}
    with ready(started):
        loads = {name: Load(one, NOTHING) for name, one in started.items()}
        for turn in rounds(budget_seconds - _START_SECONDS, at_least=3):
            for name in list(started)[:: -1 if turn % 2 else 1]:
                rate = loads[name].run()
                said = f"{rate.per_second:.0f}/s, {rate.cpu_milliseconds:.2f} ms of CPU a task"
                print(f"   {pool} {name}: {said}", flush=True)
                runs[name].append(rate.per_second)
    yield from compared(
        f"no-op tasks, {pool} {concurrency}", runs, "tasks/s", against=PLAIN, target=TARGET
    )
