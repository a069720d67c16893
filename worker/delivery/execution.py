"""What a worker does round every task: pick up, watch, and tell the outbox how it ended.

============================  =====================================================
returns                       the message is done
``Superseded``                done: somebody else has the work, or it is gone
``Transient``, a lost server  back into the outbox, with backoff; nothing waits in a worker
``Permanent``                 done: the reason stands in the row the task is about
any other, or given up        a dead letter
============================  =====================================================
"""

import json
import logging
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn
from uuid import UUID

from celery.exceptions import Ignore, Reject, Retry
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from shared.errors import (
    AttemptsExhausted,
    DeadlineExceeded,
    Permanent,
    RagWorkerError,
    ShuttingDown,
    SkippedBySwitch,
    Superseded,
    Transient,
    UnexpectedFailure,
)
from shared.models import NO_TENANT
from shared.queueing.outage import RETRYABLE
from shared.queueing.publishing import plain_json
from shared.queueing.task import FlaskTask, backoff_seconds
from shared.settings.delivery import DeliverySettings
from worker.delivery import pickup, shutdown
from worker.delivery.heartbeat import Heartbeat
from worker.delivery.pickup import PickedUp
from worker.delivery.runs import Limits, running
from worker.delivery.switches import Action, Switches
from worker.delivery.watchdog import Watchdog

logger = logging.getLogger(__name__)


class Execution:
    """Runs tasks on the delivery contract.

    Args:
        engine: the database.
        settings: limits.
        heartbeat: renews the leases of this process.
        watchdog: ends what must end; started here with the first task.
        switches: what operators hold or skip.
    """

    def __init__(
        self,
        engine: Engine,
        settings: DeliverySettings,
        heartbeat: Heartbeat,
        watchdog: Watchdog,
        switches: Switches,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._heartbeat = heartbeat
        self._watchdog = watchdog
        self._switches = switches

    def run(self, task: FlaskTask, call: Callable[[], Any]) -> Any:
        """Run the body of a task.

        Raises:
            Superseded: there was nothing to do.
            Retry: it will be published again.
            Permanent: it ended with a reason.
        """
        self._watchdog.ensure_running()
        message_id = UUID(task.request.id) if getattr(task.request, "outbox", None) else None
        self._require_service(message_id)
        self._require_no_switch(task, message_id)
        message = None
        if message_id is not None:
            seconds = self._settings.delivery_lease_seconds
            message = pickup.pick_up(self._engine, message_id, seconds)
            self._require_attempts_left(task, message)
        try:
            result = self._supervised(task, message, call)
        except RETRYABLE as error:
            self._try_again(task, message, error)
        except Exception as error:
            self._close(task, message, error)
            raise
        if message is not None:
            pickup.finish(self._engine, message)
        return result

    def _supervised(
        self, task: FlaskTask, message: PickedUp | None, call: Callable[[], Any]
    ) -> Any:
        def give_up(reason: RagWorkerError) -> None:
            with task.flask_app.app_context():
                self._give_up(task, message, reason)

        limits = Limits(
            task.deadline_seconds or self._settings.delivery_task_deadline_seconds,
            task.stall_seconds or self._settings.delivery_stall_seconds,
        )
        with ExitStack() as stack:
            name = f"{task.name}[{task.request.id}]"
            is_again = (
                message.lease.attempt > 1
                if message is not None
                else bool((task.request.delivery_info or {}).get("redelivered"))
            )
            run = stack.enter_context(running(name, limits, give_up, is_again=is_again))
            if message is not None:
                stack.enter_context(self._heartbeat.keep(message.lease))
            return run.part(call)

    def _require_service(self, message_id: UUID | None) -> None:
        if not shutdown.is_begun():
            return
        if message_id is None:
            raise Reject(ShuttingDown(), requeue=True)
        pickup.decline(self._engine, message_id)
        raise Ignore

    def _require_no_switch(self, task: FlaskTask, message_id: UUID | None) -> None:
        request = task.request
        rule = self._switches.matching(
            task.name, getattr(request, "tenant_id", None), request.id, request.args, request.kwargs
        )
        if rule is None:
            return
        logger.info("%s[%s]: %s", task.name, request.id, rule, extra={"action": "task.switched"})
        if rule.action is Action.HOLD:
            self._hold(task, message_id)
        message = message_id and pickup.pick_up(
            self._engine, message_id, self._settings.delivery_lease_seconds
        )
        self._give_up(task, message or None, error := SkippedBySwitch(f"skipped: {rule}"))
        raise error

    def _hold(self, task: FlaskTask, message_id: UUID | None) -> NoReturn:
        if message_id is not None:
            pickup.decline(self._engine, message_id)
        else:
            self._adopt(task, 0.0, None)
        raise Ignore

    def _require_attempts_left(self, task: FlaskTask, message: PickedUp) -> None:
        lease, settings = message.lease, self._settings
        if lease.deaths >= settings.delivery_max_deaths:
            reason = f"the worker died {lease.deaths} times on this document or message"
        elif task.max_retries is not None and lease.attempt > task.max_retries + 1:
            reason = f"given up after {task.max_retries + 1} attempts"
            reason += f"; the last ended so: {message.last_error}" if message.last_error else ""
        else:
            return
        error = AttemptsExhausted(reason)
        self._give_up(task, message, error)
        raise error

    def _try_again(self, task: FlaskTask, message: PickedUp | None, error: Exception) -> NoReturn:
        attempt = message.lease.attempt if message else task.request.retries + 1
        wanted = error.retry_after_seconds if isinstance(error, Transient) else None
        counts = not isinstance(error, ShuttingDown)
        delay_seconds = (wanted or backoff_seconds(attempt - 1)) if counts else 0.0
        if message is not None and counts:
            self._require_budget(task, message, error, delay_seconds)
        try:
            if message is None:
                self._adopt(task, delay_seconds, error)
            else:
                engine = self._engine
                pickup.hand_back(engine, message, delay_seconds, str(error), counts=counts)
        except SQLAlchemyError:
            # The database is away: the broker keeps it meanwhile.
            raise error from None
        when = datetime.now(UTC) + timedelta(seconds=delay_seconds)
        raise Retry(str(error), exc=error, when=when) from error

    def _require_budget(
        self, task: FlaskTask, message: PickedUp, error: Exception, delay_seconds: float
    ) -> None:
        settings = self._settings
        budget = settings.delivery_retry_budget_seconds
        has_tries = task.max_retries is None or message.lease.attempt <= task.max_retries
        if has_tries and message.age_seconds + delay_seconds <= budget:
            return
        exhausted = AttemptsExhausted(
            f"given up after {message.lease.attempt} attempts in {message.age_seconds:.0f} s; "
            f"the last ended so: {error}"
        )
        exhausted.__cause__ = error
        self._give_up(task, message, exhausted)
        raise exhausted

    def _close(self, task: FlaskTask, message: PickedUp | None, error: Exception) -> None:
        if isinstance(error, Superseded) or not deserves_burial(error):
            if message is not None:
                pickup.finish(self._engine, message)
        else:
            self._bury(task, message, error)

    def _give_up(self, task: FlaskTask, message: PickedUp | None, reason: RagWorkerError) -> None:
        request = task.request
        task.abandon(reason, request.args or (), request.kwargs or {})
        self._bury(task, message, reason)

    def _bury(self, task: FlaskTask, message: PickedUp | None, error: Exception) -> None:
        if message is None:
            # It came by plain delay: into the outbox first, so that there is one way to a letter.
            self._adopt(task, 0.0, error)
            seconds = self._settings.delivery_lease_seconds
            message = pickup.pick_up(self._engine, UUID(task.request.id), seconds)
        letter = pickup.bury(self._engine, message, error)
        logger.error(
            "%s[%s] is dead letter %s: %s",
            task.name,
            task.request.id,
            letter,
            error,
            extra={"action": "dead_letter.written", "letter_id": str(letter)},
        )

    def _adopt(self, task: FlaskTask, delay_seconds: float, error: Exception | None) -> None:
        request = task.request
        tenant_id = getattr(request, "tenant_id", None) or NO_TENANT
        pickup.adopt(
            self._engine,
            {
                "id": UUID(request.id),
                "tenant_id": tenant_id,
                "task": task.name,
                "queue": (request.delivery_info or {}).get("routing_key") or "",
                "args": json.dumps(plain_json(list(request.args or ()))),
                "kwargs": json.dumps(plain_json(dict(request.kwargs or {}))),
                "delay_seconds": delay_seconds,
                "error": str(error) if error else None,
            },
        )


def deserves_burial(error: BaseException) -> bool:
    """Whether an error becomes a dead letter: what a repaired system could do after all."""
    kinds = (AttemptsExhausted, DeadlineExceeded, SkippedBySwitch, UnexpectedFailure)
    return isinstance(error, kinds) or not isinstance(error, Permanent)
