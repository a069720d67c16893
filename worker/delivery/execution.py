"""What a worker does round every task: pick up, watch, and tell the outbox how it ended.

============================  =====================================================
returns                       the message is done
``Superseded``                done: somebody else has the work, or it is gone
``Transient``, a lost server  back into the outbox, with backoff; nothing waits in a worker
``Permanent``                 done: the reason stands in the row the task is about
any other, or given up        a dead letter
============================  =====================================================
"""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from celery.exceptions import Ignore, Reject, Retry
from sqlalchemy import Engine

from shared.contract import SCHEDULED
from shared.errors import (
    LeaseLost,
    RagWorkerError,
    ShuttingDown,
    SkippedBySwitch,
    UnexpectedFailure,
)
from shared.queueing.outage import RETRYABLE
from shared.queueing.outcome import Outcome
from shared.queueing.task import FlaskTask
from shared.settings.delivery import DeliverySettings
from worker.delivery import pickup, shutdown
from worker.delivery.delivered import Delivered
from worker.delivery.ending import Ending
from worker.delivery.heartbeat import Heartbeat
from worker.delivery.pickup import PickedUp
from worker.delivery.runs import Limits, running
from worker.delivery.subjects import name_subject
from worker.delivery.switches import Action, Rule, Switches
from worker.delivery.watchdog import Watchdog

logger = logging.getLogger(__name__)

#: A held task that others hang on cannot wait in the outbox, which knows nothing of them.
_HELD_IN_BROKER_SECONDS = 5.0


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
        delivered = Delivered.to(task)
        name_subject(self._engine, delivered)
        self._require_service(delivered)
        self._require_no_switch(delivered)
        self._require_first_delivery(delivered)
        message = self._pick_up(delivered)
        ending = self._ending(delivered, message)
        ending.require_attempts_left()
        try:
            result = self._supervised(delivered, message, ending, call)
        except RETRYABLE as error:
            ending.try_again(error)
        except Retry as wish:
            ending.repeat(wish)
        except (Ignore, Reject) as answer:
            ending.step_back(answer)
        except MemoryError as error:
            ending.close(error)
            # As it is it would end the worker's main process.
            raise UnexpectedFailure(f"{delivered}: out of memory") from error
        except Exception as error:
            ending.close(error)
            raise
        ending.finish()
        return result

    def _ending(self, delivered: Delivered, message: PickedUp | None) -> Ending:
        return Ending(self._engine, self._settings, delivered, message, self._heartbeat.owe)

    def _pick_up(self, delivered: Delivered) -> PickedUp | None:
        if not delivered.has_row:
            return None
        return pickup.pick_up(self._engine, delivered.id, self._settings.delivery_lease_seconds)

    def _supervised(
        self,
        delivered: Delivered,
        message: PickedUp | None,
        ending: Ending,
        call: Callable[[], Any],
    ) -> Any:
        task = delivered.task

        def give_up(reason: RagWorkerError) -> None:
            with task.flask_app.app_context():
                ending.close_stuck(reason)

        limits = Limits(
            task.deadline_seconds or self._settings.delivery_task_deadline_seconds,
            task.stall_seconds or self._settings.delivery_stall_seconds,
            self._settings.delivery_unstoppable_seconds,
        )
        is_again = delivered.is_redelivered if message is None else message.lease.attempt > 1
        tenant_id = delivered.tenant_id if message is None else str(message.tenant_id)
        with ExitStack() as stack:
            run = stack.enter_context(
                running(str(delivered), limits, give_up, tenant_id, is_again=is_again)
            )
            if message is not None:
                stack.enter_context(self._heartbeat.keep(message.lease))
            try:
                return run.part(call)
            except LeaseLost as lost:
                logger.warning("%s: %s", delivered, lost, extra={"action": "lease.lost"})
                if run.is_end_whole:
                    ending.disown()
                raise

    def _require_service(self, delivered: Delivered) -> None:
        if not shutdown.is_begun():
            return
        if not delivered.has_row:
            raise Reject(ShuttingDown(), requeue=True)
        pickup.decline(self._engine, delivered.id)
        raise Ignore(Outcome.HANDED_BACK)

    def _require_first_delivery(self, delivered: Delivered) -> None:
        """A plain message that comes back gets a row: from there its deaths are counted."""
        if delivered.has_row or not delivered.is_redelivered or delivered.is_part_of_canvas:
            return
        self._ending(delivered, None).adopt(attempts=delivered.retries + 1)
        raise Ignore(Outcome.HANDED_BACK)

    def _require_no_switch(self, delivered: Delivered) -> None:
        rule = self._switches.matching(
            delivered.task.name,
            lambda: self._tenant_of(delivered),
            delivered.id,
            delivered.args,
            delivered.kwargs,
            delivered.queue,
        )
        if rule is None:
            return
        if delivered.task.name in SCHEDULED and not delivered.has_row:
            raise Ignore(Outcome.HELD)  # the schedule sends the next one: they must not pile up
        logger.info("%s: %s", delivered, rule, extra={"action": "task.switched"})
        if rule.action is Action.HOLD:
            self._hold(delivered)
        self._skip(delivered, rule)

    def _tenant_of(self, delivered: Delivered) -> str | None:
        if delivered.tenant_id is not None or delivered.dataset_id is None:
            return delivered.tenant_id
        return pickup.tenant_of(self._engine, delivered.dataset_id)

    def _hold(self, delivered: Delivered) -> None:
        if delivered.is_part_of_canvas:
            delivered.task.wait_in_broker(_HELD_IN_BROKER_SECONDS)
            raise Ignore(Outcome.HELD)
        self._ending(delivered, None).hold()

    def _skip(self, delivered: Delivered, rule: Rule) -> None:
        ending = self._ending(delivered, self._pick_up(delivered))
        if rule.subject_id not in {None, delivered.id}:
            ending.split_up()
        error = SkippedBySwitch(f"skipped: {rule}")
        ending.give_up(error, counts=False)
        raise error
