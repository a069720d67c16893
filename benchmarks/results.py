"""Stored results per second: rag-worker against Celery's database backend, RQ and Dramatiq.

``python -m benchmarks results``. Celery's backend is measured as it is by default and, under
gevent, with ``result_backend_thread_safe`` as well, which is the least one has to set there.
RQ and Dramatiq store in Redis, and forget after a while; rag-worker stores in PostgreSQL. Its
own rate without storing is beside them: what a result costs.
"""

from collections.abc import Iterator

from benchmarks.noop import NOTHING, STORED
from benchmarks.queue_workers import CeleryWorker, Contender, Load, ready
from benchmarks.report import OURS, Figure, compared, rounds
from benchmarks.rig import Rig, empty_results, require_results, rig

TARGETS = {"prefork": 1.7, "gevent": 10.0}
POOLS = {"prefork": 2, "gevent": 50}
STOCK, THREAD_SAFE = "Celery, its database backend", "the same, thread-safe"
IGNORED = "rag-worker, result ignored"
_ROUND_SECONDS = 2.0
_START_SECONDS = 20


def figures(budget_seconds: float) -> Iterator[Figure]:
    """Rates by pool."""
    with rig() as servers:
        for pool in POOLS:
            yield from _of_pool(servers, pool, budget_seconds / len(POOLS))


def _of_pool(servers: Rig, pool: str, budget_seconds: float) -> Iterator[Figure]:
    started = _started(servers, pool)
    runs: dict[str, list[float]] = {name: [] for name in [*started, IGNORED]}
    with ready(started):
        bench = _Bench(servers, pool, started)
        for turn in rounds(budget_seconds - _START_SECONDS):
            for name in list(runs)[:: -1 if turn % 2 else 1]:
                runs[name].append(bench.measure(name))
    yield from compared(
        f"stored results, {pool} {POOLS[pool]}",
        runs,
        "tasks/s",
        against=STOCK,
        target=TARGETS[pool],
    )


def _started(servers: Rig, pool: str) -> dict[str, Contender]:
    from benchmarks.other_queues import DramatiqWorker, RqWorkers

    concurrency = POOLS[pool]
    started: dict[str, Contender] = {
        STOCK: CeleryWorker(servers, pool, concurrency, results="stock", number=1),
        "Dramatiq": DramatiqWorker(servers, pool, concurrency, number=2),
    }
    if pool == "prefork":
        started["RQ"] = RqWorkers(servers, concurrency, number=3)
    else:
        started[THREAD_SAFE] = CeleryWorker(
            servers, pool, concurrency, results="thread_safe", number=4
        )
    started[OURS] = CeleryWorker(servers, pool, concurrency)
    return started


class _Bench:
    """Contenders that are ready, and what they do in a round."""

    def __init__(self, servers: Rig, pool: str, started: dict[str, Contender]) -> None:
        self._servers, self._pool = servers, pool
        self._loads = {name: Load(one, STORED, _ROUND_SECONDS) for name, one in started.items()}
        self._loads[IGNORED] = Load(started[OURS], NOTHING, _ROUND_SECONDS)

    def measure(self, name: str) -> float:
        """Results per second."""
        empty_results(self._servers.database)
        load = self._loads[name]
        rate = load.run()
        if name not in {"Dramatiq", "RQ"}:
            require_results(self._servers.database, 0 if name == IGNORED else load.tasks)
        said = f"{rate.per_second:.0f}/s, {rate.cpu_milliseconds:.2f} ms of CPU a task"
        print(f"   {self._pool} {name}: {said}", flush=True)
        return rate.per_second
