"""The last resort: a run that nothing can stop takes its process along.

A pool child is killed and replaced by the pool. A pool of threads or greenlets
has no part that could be killed: the worker hands back what it can and starts
itself anew, in the same process id, with the same command.
"""

import os
import signal
import sys
import time
import traceback

from celery.signals import worker_process_init
from gevent import monkey

from shared.errors import RagWorkerError
from shared.queueing import task_context
from worker.delivery import runs, shutdown
from worker.delivery.runs import Run
from worker.delivery.watchdog import tell

#: What the other tasks of a threads or gevent worker get to hand back their work.
_HAND_BACK_SECONDS = 10.0
_POLL_SECONDS = 0.1


class _Process:
    is_pool_child = False


@worker_process_init.connect
def _note_pool_child(**_: object) -> None:
    _Process.is_pool_child = True


def give_up(run: Run, reason: RagWorkerError) -> None:
    """Record the end of a run that cannot be stopped, then end its process.

    Called by the watchdog, which must not log.
    """
    tell(
        "run.given_up",
        f"{run.name} cannot be stopped ({reason}): its process ends",
        context=run.context,
    )
    # Under gevent the database's locks belong to a hub that may be the one that is stuck;
    # then the lease runs out, and the deaths are counted.
    if not monkey.is_module_patched("threading"):
        try:
            with task_context.entered(run.context):
                run.give_up(reason)
        except Exception:  # noqa: BLE001 - the process ends all the same
            tell("run.not_recorded", f"{run.name}: its end", traceback.format_exc(), run.context)
    if _Process.is_pool_child:
        os.kill(os.getpid(), signal.SIGKILL)
    restart_worker(f"{run.name} cannot be stopped")


def restart_worker(reason: str) -> None:
    """Start this worker anew in place; what other tasks can hand back in time, they do."""
    shutdown.begin(0.0)
    deadline = time.monotonic() + _HAND_BACK_SECONDS
    # The original: under gevent the patched one would wait for a hub that may be stuck.
    sleep = monkey.get_original("time", "sleep")
    while time.monotonic() < deadline and any(not run.is_given_up for run in runs.all_runs()):
        sleep(_POLL_SECONDS)
        for run in runs.all_runs():
            run.enforce()
    tell("worker.restarts", f"the worker starts anew: {reason}")
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - our own command
