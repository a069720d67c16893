"""Counts how the runs of a worker's messages end, in its main process."""

import time
from collections.abc import Callable
from typing import Any

from billiard.einfo import ExceptionWithTraceback  # type: ignore[attr-defined]
from billiard.exceptions import Terminated, WorkerLostError
from celery.exceptions import Ignore, Reject, Retry
from celery.worker.request import Request

from shared.errors import SkippedBySwitch
from shared.queueing.outcome import Outcome
from worker.delivery import metrics
from worker.delivery.tenant_labels import TENANTS

#: How Celery says that a pool child went away in the middle of a task.
CHILD_DIED = (WorkerLostError, SystemExit, KeyboardInterrupt)
#: Runs that did something: how long the others took would say nothing.
_TIMED = frozenset({Outcome.SUCCEEDED, Outcome.FAILED, Outcome.RETRIED, Outcome.LOST})


class CountedRequest(Request):
    """A message in a worker's main process that is counted once, when its run ends."""

    _is_counted = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Celery makes a class of its own for each task, whose ``on_success`` calls no other."""
        super().__init_subclass__(**kwargs)
        if "on_success" in vars(cls):
            cls.on_success = _counting(cls.on_success)  # type: ignore[method-assign]

    def on_failure(
        self,
        exc_info: Any,
        send_failed_event: bool = True,  # noqa: FBT001, FBT002 - Celery's shape
        return_ok: bool = False,  # noqa: FBT001, FBT002
    ) -> Any:
        """Every end but a result."""
        outcome = outcome_of(error_of(exc_info))
        if outcome is not Outcome.REVOKED:  # ``_announce_revoked`` knows whether it is
            self.count(outcome)
        return super().on_failure(exc_info, send_failed_event, return_ok)

    def _announce_revoked(self, *args: Any) -> None:
        self.count(Outcome.REVOKED)
        super()._announce_revoked(*args)  # type: ignore[misc]

    def _announce_cancelled(self, *args: Any, **kwargs: Any) -> None:
        # The connection to the broker was lost: the message comes again.
        self.count(Outcome.HANDED_BACK)
        super()._announce_cancelled(*args, **kwargs)  # type: ignore[misc]

    def count(self, outcome: Outcome, seconds: float | None = None) -> None:
        """Count the run's end, the first time it is told.

        Args:
            outcome: the end.
            seconds: what the run took; unset, it is since the pool accepted it.
        """
        if self._is_counted:
            return
        self._is_counted = True
        queue = metrics.queue_label(self.delivery_info)
        metrics.TASKS.labels(self.name, queue, outcome).inc()
        tenant = TENANTS.label(self.request_dict.get("tenant_id"))
        metrics.TENANT_TASKS.labels(tenant, outcome).inc()
        if seconds is None and self.time_start:
            seconds = time.time() - self.time_start
        if outcome in _TIMED and seconds is not None:
            metrics.TASK_SECONDS.labels(self.name, queue).observe(seconds)


def _counting(on_success: Callable[..., Any]) -> Callable[..., Any]:
    def on_end(self: CountedRequest, failed__retval__runtime: Any, **kwargs: Any) -> Any:
        has_failed, value, seconds = failed__retval__runtime
        self.count(outcome_of(error_of(value)) if has_failed else Outcome.SUCCEEDED, seconds)
        return on_success(self, failed__retval__runtime, **kwargs)

    return on_end


def error_of(exc_info: Any) -> BaseException:
    """The error that a pool reports."""
    error: BaseException = exc_info.exception
    return error.exc if isinstance(error, ExceptionWithTraceback) else error


def outcome_of(error: BaseException) -> Outcome:
    """How a run ended that ended in an error."""
    if isinstance(error, CHILD_DIED):
        return Outcome.LOST
    if isinstance(error, Terminated):
        return Outcome.REVOKED
    if isinstance(error, Ignore):
        named = error.args[0] if error.args else Outcome.IGNORED
        return Outcome(named) if named in set(Outcome) else Outcome.IGNORED
    known = {Reject: Outcome.REJECTED, Retry: Outcome.RETRIED, SkippedBySwitch: Outcome.SKIPPED}
    return next((end for kind, end in known.items() if isinstance(error, kind)), Outcome.FAILED)
