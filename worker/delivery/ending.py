"""What becomes of a message when its task has ended, or must not begin."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

from celery.exceptions import Ignore, Reject, Retry
from sqlalchemy import Engine

from shared.errors import (
    AttemptsExhausted,
    DeadlineExceeded,
    Permanent,
    RagWorkerError,
    ServiceAway,
    ShuttingDown,
    SkippedBySwitch,
    Superseded,
    Transient,
    UnexpectedFailure,
)
from shared.queueing.outage import RETRYABLE, SERVER_LOST, UNCOUNTED
from shared.queueing.outcome import Outcome
from shared.queueing.task import away_seconds, wait_seconds
from shared.settings.delivery import DeliverySettings
from worker.delivery import pickup
from worker.delivery.delivered import Delivered
from worker.delivery.pickup import PickedUp

logger = logging.getLogger(__name__)


class Ending:
    """The end of one message.

    Args:
        engine: the database.
        settings: limits.
        delivered: the message.
        message: this worker's hold on its row; ``None`` for one that has no row.
        owe: does what the database is not there for, as soon as it is.
    """

    def __init__(
        self,
        engine: Engine,
        settings: DeliverySettings,
        delivered: Delivered,
        message: PickedUp | None,
        owe: Callable[[Callable[[], None]], None],
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._delivered = delivered
        self._message = message
        self._owe = owe

    def finish(self) -> None:
        """It is done."""
        if self._message is not None:
            pickup.finish(self._engine, self._message)

    def disown(self) -> None:
        """It is another worker's by now: nothing is written about it."""
        self._message = None

    def require_attempts_left(self) -> None:
        """Bury a message that was picked up too often.

        Raises:
            AttemptsExhausted: it is a dead letter now.
            Superseded: its subjects went out again one by one.
        """
        if self._message is None:
            return
        task, lease = self._delivered.task, self._message.lease
        if lease.deaths >= self._settings.delivery_max_deaths:
            # Of several subjects the one that kills is found by its own message.
            self.split_up()
            reason = f"the worker died {lease.deaths} times on this {task.subject}"
        elif task.max_retries is not None and lease.attempt > task.max_retries + 1:
            reason = f"given up after {task.max_retries + 1} attempts"
            last = self._message.last_error
            reason += f"; the last ended so: {last}" if last else ""
        else:
            return
        error = AttemptsExhausted(reason)
        self.give_up(error)
        raise error

    def split_up(self) -> None:
        """Send a message about several subjects out again, a message each.

        Raises:
            Superseded: that is done, and this message with it.
        """
        if self._delivered.task.split_up(self._delivered.args, self._delivered.kwargs):
            self.finish()
            raise Superseded(f"{self._delivered}: its subjects went out one by one")

    def hold(self) -> NoReturn:
        """Put it back into the outbox, where a rule holds it.

        Raises:
            Ignore: always.
        """
        if self._delivered.has_row:
            pickup.decline(self._engine, self._delivered.id)
        else:
            self.adopt(attempts=self._delivered.retries)
        raise Ignore(Outcome.HELD)

    def try_again(self, error: Exception) -> NoReturn:
        """Put it back into the outbox, with backoff; or bury it, when no try is left.

        Raises:
            Retry: it is in the outbox.
            AttemptsExhausted: it is a dead letter.
            Exception: ``error``, when Celery has to retry it: other tasks hang on this one.
        """
        if self._delivered.is_part_of_canvas:
            raise error
        counts = not isinstance(error, UNCOUNTED)
        delay_seconds = 0.0 if isinstance(error, ShuttingDown) else self._wait_seconds(error)
        if isinstance(error, ServiceAway):
            # Nothing else would tell an operator: none of its work fails.
            logger.warning(
                "%s waits for a service: %s",
                self._delivered,
                error,
                extra={"action": "task.service_away"},
            )
        if counts or isinstance(error, ServiceAway):
            self._require_budget(error, delay_seconds)
        self._put_back(delay_seconds, str(error), counts=counts)
        when: Any = delay_seconds
        raise Retry(str(error), exc=error, when=when) from error

    def repeat(self, wish: Retry) -> NoReturn:
        """Put it back into the outbox: the task called ``self.retry()``.

        Raises:
            Retry: ``wish``; what Celery has published itself it is left to.
            AttemptsExhausted: it is a dead letter, its time is over.
        """
        called_with: Any = getattr(wish, "called_with", None)
        if called_with is not None:
            when: Any = wish.when
            delay_seconds = max(float(when), 0.0)
            self._require_budget(wish.exc or wish, delay_seconds)
            self._put_back(delay_seconds, str(wish.exc or wish), called_with=called_with)
        raise wish

    def step_back(self, answer: Ignore | Reject) -> NoReturn:
        """The task gave Celery an answer of its own: done, or into the queue again.

        Raises:
            Ignore: a message of the outbox is handled.
            Reject: one that has no row is the broker's.
        """
        if self._message is None:
            raise answer
        if getattr(answer, "requeue", False):
            self._put_back(wait_seconds(self._message.lease.attempt - 1), str(answer))
        else:
            self.finish()
        was_rejected = isinstance(answer, Reject)
        raise Ignore(Outcome.REJECTED if was_rejected else Outcome.IGNORED) from answer

    def close(self, error: Exception) -> None:
        """Write down the end that an error brought."""
        if isinstance(error, Superseded) or not deserves_burial(error):
            self.finish()
            return
        # A reason of the ``Permanent`` family stands in the row already: services see to it.
        if not isinstance(error, Permanent):
            reason = UnexpectedFailure(f"unexpected {type(error).__name__}: {error}")
            self._abandon(error if isinstance(error, RagWorkerError) else reason)
        self._bury(error)

    def close_stuck(self, reason: RagWorkerError) -> None:
        """Write down the end of a run that cannot be stopped, from another thread."""
        if isinstance(reason, Permanent):
            self.give_up(reason)
        elif not self._delivered.is_part_of_canvas:
            counts = not isinstance(reason, UNCOUNTED)
            is_told_to_go = isinstance(reason, ShuttingDown)
            delay_seconds = 0.0 if is_told_to_go else self._wait_seconds(reason)
            self._put_back(delay_seconds, str(reason), counts=counts)

    def give_up(self, reason: RagWorkerError, *, counts: bool = True) -> None:
        """Record the reason where users look, and bury the message."""
        self._abandon(reason)
        self._bury(reason, counts=counts)

    def adopt(self, *, attempts: int, delay_seconds: float = 0.0, error: str | None = None) -> None:
        """Give a message that came by plain ``.delay()`` a row, to be published from there."""
        row = self._delivered.row()
        pickup.adopt(self._engine, row, attempts=attempts, delay_seconds=delay_seconds, error=error)

    def _wait_seconds(self, error: Exception) -> float:
        attempt = self._message.lease.attempt if self._message else self._delivered.retries + 1
        wanted = error.retry_after_seconds if isinstance(error, Transient) else None
        if wanted is None and self._message is not None and isinstance(error, ServiceAway):
            return away_seconds(self._message.age_seconds)
        return wait_seconds(attempt - 1, wanted)

    def _require_budget(self, error: Exception, delay_seconds: float) -> None:
        if self._message is None:
            return
        max_retries = self._delivered.task.max_retries
        attempt, age_seconds = self._message.lease.attempt, self._message.age_seconds
        has_tries = max_retries is None or attempt <= max_retries or isinstance(error, ServiceAway)
        budget_seconds = self._settings.delivery_retry_budget_seconds
        if has_tries and age_seconds + delay_seconds <= budget_seconds:
            return
        exhausted = AttemptsExhausted(
            f"given up after {attempt} attempts in {age_seconds:.0f} s; the last ended so: {error}"
        )
        exhausted.__cause__ = error
        self.give_up(exhausted)
        raise exhausted

    def _put_back(
        self,
        delay_seconds: float,
        error: str,
        *,
        counts: bool = True,
        called_with: tuple[Any, Any] = (None, None),
    ) -> None:
        args, kwargs = called_with
        if self._message is not None:
            give_back = partial(
                pickup.hand_back,
                self._engine,
                self._message,
                delay_seconds,
                error if counts else None,
                counts=counts,
                args=args,
                kwargs=kwargs,
            )
            try:
                give_back()
            except SERVER_LOST:
                self._owe(give_back)
                raise
            return
        attempts = self._delivered.retries + (1 if counts else 0)
        pickup.adopt(
            self._engine,
            self._delivered.row(args, kwargs),
            attempts=attempts,
            delay_seconds=delay_seconds,
            error=error,
        )

    def _abandon(self, reason: RagWorkerError) -> None:
        delivered = self._delivered
        try:
            delivered.task.abandon(reason, delivered.args, delivered.kwargs)
        except RETRYABLE:
            raise
        except Exception:
            # It must not keep the message out of its grave: it would come back for ever.
            logger.exception("%s: %s", delivered, reason, extra={"action": "task.not_abandoned"})

    def _bury(self, error: Exception, *, counts: bool = True) -> None:
        if self._message is not None:
            letter = pickup.bury(self._engine, self._message, error, counts=counts)
        else:
            attempts = self._delivered.retries + (1 if counts else 0)
            letter = pickup.bury_unwritten(self._engine, self._delivered.row(), error, attempts)
        logger.error(
            "%s is dead letter %s: %s",
            self._delivered,
            letter,
            error,
            extra={"action": "dead_letter.written", "letter_id": str(letter)},
        )


def deserves_burial(error: BaseException) -> bool:
    """Whether an error becomes a dead letter: what a repaired system could do after all."""
    kinds = (AttemptsExhausted, DeadlineExceeded, SkippedBySwitch, UnexpectedFailure)
    return isinstance(error, kinds) or not isinstance(error, Permanent)
