"""From ``kill -9`` to the moment the work is taken up again.

``python -m benchmarks recovery``: three workers have a task each that was accepted with a
transaction and sleeps, and a beat and a fourth worker run beside them. Then all at once the
process of a pool is killed, a whole worker is killed on the fourth's host, and a whole worker is
killed on another host. With less than 70 seconds (``--seconds``) lease and sweep are shorter
than their defaults, and the figures say so.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import redis

from benchmarks.noop import ASLEEP
from benchmarks.queue_workers import CeleryWorker, ready
from benchmarks.report import OURS, Figure
from benchmarks.rig import Rig, rig
from shared.models import db
from worker.cli.stack.children import kill_group, spawn

_DEFAULTS_FROM_SECONDS = 70.0
_SHORT = {"DELIVERY_LEASE_SECONDS": "20", "SWEEP_SECONDS": "10"}
_PATIENCE_SECONDS = 240.0
_CHILD = "a pool's process"
#: What is killed, and on which host it is; the fourth worker is here.
_CASES = {
    _CHILD: "here",
    "a worker, another one on its host": "here",
    "a worker, the others elsewhere": "elsewhere",
}


def figures(budget_seconds: float) -> Iterator[Figure]:
    """Seconds for each kind of death; the ratio is the lease's time over it."""
    with rig(**({} if budget_seconds >= _DEFAULTS_FROM_SECONDS else _SHORT)) as servers:
        settings = servers.app.extensions["settings"].delivery
        lease_seconds = settings.delivery_lease_seconds
        print(f"   lease {lease_seconds:g} s, swept every {settings.sweep_seconds:g} s", flush=True)
        for case, seconds in _recovered(servers).items():
            yield Figure.of(
                f"kill -9 of {case}",
                OURS,
                [seconds],
                "s to resumed work",
                ratio=lease_seconds / seconds,
                against=f"the lease of {lease_seconds:g} s",
            )


def _recovered(servers: Rig) -> dict[str, float]:
    started: dict[str, CeleryWorker] = {}
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "benchmarks.noop_ours",
        "beat",
        "-l",
        "WARNING",
    ]
    environment = dict(os.environ | {"CELERY_BROKER_URL": servers.broker})
    beat = spawn(
        command, log=servers.folder / "beat.log", death_signal=signal.SIGKILL, env=environment
    )
    try:
        return _killed(servers, started)
    finally:
        kill_group(beat)
        for one in started.values():
            one.stop()


def _killed(servers: Rig, started: dict[str, CeleryWorker]) -> dict[str, float]:
    client: Any = redis.Redis.from_url(servers.broker)
    keys = {}
    for case, host in _CASES.items():
        # One at a time: each has its only process busy before the next worker is there.
        one = started[case] = CeleryWorker(servers, "prefork", 1, host=host)
        one.await_ready()
        keys[case] = f"bench-{uuid4()}"
        task = servers.app.extensions["celery"].tasks[ASLEEP]
        task.delay_on_commit(keys[case], servers.broker)
        db.session.commit()
        _await_begun(client, keys[case], 1)
    spare = CeleryWorker(servers, "prefork", 4, host="here")
    with ready({"spare": spare}):
        killed_at = {
            case: _kill(case, one, client.lindex(keys[case], 0)) for case, one in started.items()
        }
        return {case: _await_begun(client, keys[case], 2) - at for case, at in killed_at.items()}


def _kill(case: str, one: CeleryWorker, begun: bytes) -> float:
    """Kill the process that began the task, or its whole worker; when that was."""
    killed_at = time.time()
    if case == _CHILD:
        os.kill(int(begun.split()[0]), signal.SIGKILL)
    else:
        os.killpg(one.process.pid, signal.SIGKILL)
    return killed_at


def _await_begun(client: Any, key: str, times: int) -> float:
    """Wait until the task was begun so often; when it was, for the last time."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while client.llen(key) < times:
        if time.monotonic() > deadline:
            raise RuntimeError(f"begun {client.llen(key)} times, not {times}")
        time.sleep(0.02)
    _, began_at = client.lindex(key, times - 1).split()
    return float(began_at)
