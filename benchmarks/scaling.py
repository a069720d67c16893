"""What a second process and a second worker add, against twice the first.

``python -m benchmarks scaling``: tasks that compute for 20 ms each, by the clock of their own
thread, on rag-worker in prefork. More processes than the machine has idle cores add nothing.
"""

import os
from collections.abc import Iterator

from benchmarks.noop import BUSY
from benchmarks.queue_workers import CeleryWorker, ready
from benchmarks.report import OURS, Figure, compared, rounds
from benchmarks.rig import Rig, rig

TARGET = 0.9
_TASKS = 150
_MILLISECONDS = 20.0
_START_SECONDS = 12


def figures(budget_seconds: float) -> Iterator[Figure]:
    """Rates of one process, two of them, and two workers of one."""
    if (os.cpu_count() or 1) < 2:
        print("   one core: there is nothing to scale to")
        return
    with rig() as servers:
        runs = _runs(servers, budget_seconds)
    one = runs.pop("one process")
    for name, rates in runs.items():
        pair = {"twice one process": [2 * rate for rate in one], OURS: rates}
        work = f"tasks of {_MILLISECONDS:.0f} ms, {name}"
        yield from compared(work, pair, "tasks/s", against="twice one process", target=TARGET)


def _runs(servers: Rig, budget_seconds: float) -> dict[str, list[float]]:
    # Two workers on one broker share a queue; the others have brokers of their own.
    first, second = (CeleryWorker(servers, "prefork", 1, number=3) for _ in range(2))
    started = {
        "one process": CeleryWorker(servers, "prefork", 1, number=1),
        "two processes": CeleryWorker(servers, "prefork", 2, number=2),
        "two workers": first,
    }
    runs: dict[str, list[float]] = {name: [] for name in started}
    with ready(started | {"its second": second}):
        tasks = [(_MILLISECONDS,)] * _TASKS
        kept = {name: one.publish(BUSY, tasks) for name, one in started.items()}
        for name, one in started.items():
            one.run(kept[name], _TASKS)
        for turn in rounds(budget_seconds - _START_SECONDS):
            for name in list(started)[:: -1 if turn % 2 else 1]:
                rate = started[name].run(kept[name], _TASKS)
                print(f"   {name}: {rate.per_second:.1f}/s", flush=True)
                runs[name].append(rate.per_second)
    return runs
