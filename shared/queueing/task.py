"""``FlaskTask``: every task runs in an app context, and its error family decides how it ends."""

import logging
import math
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, NoReturn, Protocol
from uuid import UUID

from celery import Task
from celery.exceptions import Ignore, Reject, Retry
from flask import Flask
from sqlalchemy.orm import Session

from shared.errors import InvalidRequest, Permanent, RagWorkerError, Superseded, Transient
from shared.models import db
from shared.queueing import outbox
from shared.queueing.outage import SERVER_LOST
from shared.queueing.outcome import Outcome

logger = logging.getLogger(__name__)

Arguments = tuple[Sequence[Any], Mapping[str, Any]]

BACKOFF_BASE_SECONDS = 1.0
BACKOFF_CAP_SECONDS = 300.0
#: While a server is away nothing can be written down: the broker keeps the message for so long.
OUTAGE_CAP_SECONDS = 30.0
#: Between two attempts while a service other than the database or the broker is away.
AWAY_CAP_SECONDS = 30.0
_FOR_EVER = 2**31


class Delivery(Protocol):
    """What a worker does round every task; see ``worker.delivery.execution``."""

    def run(self, task: "FlaskTask", call: Callable[[], Any]) -> Any:
        """Run the task's body."""


class FlaskTask(Task):  # type: ignore[type-arg]
    """A task ends in one of four ways, mapped here and nowhere else.

    ==============  ====================================================
    returns         done; acknowledged
    ``Transient``   retried with full jitter; ``retry_after_seconds`` honoured;
                    so is Celery's ``self.retry()``
    ``Permanent``   FAILURE, one log line, no traceback; not retried
    ``Superseded``  acknowledged, nothing stored
    ==============  ====================================================

    Each run has its own app context and so its own database session, removed
    when the task ends, whatever its end.

    Attributes:
        deadline_seconds: the longest a run may take; the setting's, when unset.
        stall_seconds: the longest it may go without a checkpoint; likewise.
        max_retries: retries before it becomes a dead letter; likewise.
        subject: what it is about, in reasons that people read.
    """

    abstract = True
    throws = (Permanent, InvalidRequest)
    max_retries: int | None = None
    deadline_seconds: float | None = None
    stall_seconds: float | None = None
    subject: str = "message"

    @classmethod
    def bind(cls, app: Any) -> Any:
        """Celery's own; fills in ``max_retries``, in an app of ours."""
        if cls.max_retries is None:
            # A shared task is bound to every app of the process, others' too.
            cls.max_retries = app.conf.get("delivery_max_retries")
        return super().bind(app)

    @property
    def flask_app(self) -> Flask:
        """The application whose Celery app the task belongs to: two can live in one process."""
        celery: Any = self.app
        flask_app: Flask = celery.flask_app
        return flask_app

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task; see the class for what each family of errors becomes."""
        call = partial(super().__call__, *args, **kwargs)
        with self.flask_app.app_context():
            delivery: Delivery | None = self.flask_app.extensions.get("delivery")
            try:
                if delivery is None or self.request.called_directly:
                    return call()
                return delivery.run(self, call)
            except Superseded as reason:
                shown, _ = self.shown(args, kwargs)
                logger.info(
                    "%s: %s", self.name, reason, extra={"action": "task.superseded", "args_": shown}
                )
                if self.request.called_directly:
                    raise
                raise Ignore(Outcome.SUPERSEDED) from reason
            except Transient as error:
                self._try_again(error, error.retry_after_seconds)
            except SERVER_LOST as error:
                if delivery is None:
                    self._try_again(error)
                self._sit_out(error)

    @property
    def has_row(self) -> bool:
        """Whether the message being run came from the outbox."""
        return bool(getattr(self.request, "outbox", None))

    @property
    def is_part_of_canvas(self) -> bool:
        """Whether other tasks hang on the one being run: only Celery's own message says which."""
        request: Any = self.request
        return bool(request.chain or request.callbacks or request.errbacks or request.chord)

    def retry(  # type: ignore[override]
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        exc: Exception | None = None,
        throw: bool = True,  # noqa: FBT001, FBT002 - Celery's signature
        **options: Any,
    ) -> Retry:
        """Celery's own; in a worker the message waits in the outbox, not in a worker's memory.

        There it keeps its queue and its priority; ``eta``, ``countdown`` and ``max_retries``
        are what can be said.

        Raises:
            Retry: unless ``throw`` is false.
            MaxRetriesExceededError: or ``exc``, when no retry is left.
        """
        if not self._waits_in_outbox(options):
            return super().retry(args, kwargs, exc, throw, **options)  # type: ignore[arg-type]
        self._require_retries_left(exc, options.get("max_retries"))
        seconds: Any = self._seconds_until(options.get("eta"), options.get("countdown"))
        again = Retry(exc=exc, when=seconds)
        again.called_with = (args, kwargs)  # type: ignore[attr-defined]
        if throw:
            raise again
        return again

    def wait_in_broker(self, seconds: float) -> None:
        """Publish the running message again with an ETA; it costs no attempt."""
        request: Any = self.request
        signature: Any = self.signature_from_request(
            request, countdown=seconds, retries=request.retries
        )
        signature.apply_async()

    def _waits_in_outbox(self, options: Mapping[str, Any]) -> bool:
        request: Any = self.request
        if request.called_directly or request.is_eager:
            return False
        if "delivery" not in self.flask_app.extensions:
            return False
        is_plain = {"eta", "countdown", "max_retries"}.issuperset(options)
        return self.has_row or (is_plain and not self.is_part_of_canvas)

    def _require_retries_left(self, exc: Exception | None, max_retries: int | None) -> None:
        most = self.max_retries if max_retries is None else max_retries
        if most is None or self.request.retries < most:
            return
        what = f"{self.name}[{self.request.id}]: no retry left after {most}"
        raise exc or self.MaxRetriesExceededError(what)

    def _seconds_until(self, eta: datetime | None, countdown: float | None) -> float:
        if eta is not None:
            aware = eta if eta.tzinfo is not None else eta.replace(tzinfo=UTC)
            return max((aware - datetime.now(UTC)).total_seconds(), 0.0)
        return float(self.default_retry_delay if countdown is None else countdown)

    def delay_on_commit(self, *args: Any, **kwargs: Any) -> UUID:
        """``delay``, if and when the transaction of the Flask session commits.

        Returns:
            The id of the message and of the task.
        """
        return self.apply_async_on_commit(args, kwargs)

    def apply_async_on_commit(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        session: Session | None = None,
        tenant_id: UUID | None = None,
        priority: int = 0,
        delay_seconds: float = 0.0,
    ) -> UUID:
        """Write the message in a session's transaction: published if and when it commits.

        Args:
            args: ids, never content.
            kwargs: the same by name.
            session: Flask's, when unset.
            tenant_id: whose message it is; taken from the dataset when the first
                argument is one.
            priority: higher goes first.
            delay_seconds: published no earlier than this after now.

        Returns:
            The id of the message and of the task.

        Raises:
            InvalidRequest: arguments that JSON cannot say.
        """
        return outbox.write(
            db.session if session is None else session,
            self.name,
            args,
            kwargs,
            celery=self.app,
            tenant_id=tenant_id,
            priority=priority,
            delay_seconds=delay_seconds,
        )

    def abandon(
        self, reason: RagWorkerError, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        """Record, where users look, that a message of this task was given up before its end.

        Tasks about a row override it; it must be safe to call twice.
        """

    def shown(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Arguments:
        """A message's arguments for logs, events and results; tasks that take content mask it."""
        return args, kwargs

    def at_rest(
        self,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        message_id: UUID,  # noqa: ARG002 - for those who override it
    ) -> Arguments:
        """A message's arguments for the outbox and for dead letters.

        Tasks that take content write it where it belongs, and return the id.
        """
        return args, kwargs

    def split_up(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:  # noqa: ARG002
        """Send a message about several subjects out again, a message each.

        Returns:
            Whether that was done; false for one about a single subject.
        """
        return False

    def revive(self, session: Session, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Undo ``abandon`` in the session's transaction: a dead letter is replayed."""

    def replayed(
        self,
        session: Session,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        message_id: UUID,
    ) -> None:
        """Note in rows that name their message which one it is now, after ``revive``."""

    def _try_again(self, error: Exception, wanted_seconds: float | None = None) -> NoReturn:
        delay_seconds = wait_seconds(self.request.retries, wanted_seconds)
        # A message that waits for longer than the visibility timeout is handed out twice.
        ceiling = self.app.conf.broker_transport_options.get("visibility_timeout", math.inf) / 2
        try:
            raise super().retry(exc=error, countdown=min(delay_seconds, ceiling)) from error
        except Reject as lost:
            # The broker took no new message: the one in hand must not be dropped.
            raise Reject(error, requeue=True) from lost

    def _sit_out(self, error: Exception) -> NoReturn:
        """Leave the message to the broker: the outbox itself is away, for however long."""
        seconds = min(backoff_seconds(self.request.retries), OUTAGE_CAP_SECONDS)
        logger.warning(
            "%s[%s] waits for %.1f s in the broker: %s",
            self.name,
            self.request.id,
            seconds,
            error,
            extra={"action": "task.sat_out"},
        )
        try:
            super().retry(exc=error, countdown=seconds, max_retries=_FOR_EVER, throw=False)
        except Reject as lost:
            raise Reject(error, requeue=True) from lost
        # Not Celery's ``Retry``: that would be stored, in the database.
        raise Ignore(Outcome.RETRIED) from error


def wait_seconds(retries: int, wanted_seconds: float | None = None) -> float:
    """The wait before a retry: what the peer asked for, else the backoff."""
    return backoff_seconds(retries) if wanted_seconds is None else max(wanted_seconds, 0.0)


def away_seconds(age_seconds: float) -> float:
    """The wait before work whose service is away is tried again.

    By the work's age and not by its attempts, which do not count: it is tried often at
    first, and never so seldom that it notices the service's return late.
    """
    return random.uniform(0.5, 1.0) * min(max(age_seconds, 2.0), AWAY_CAP_SECONDS)  # noqa: S311 - spreading load, not a secret


def backoff_seconds(retries: int) -> float:
    """Exponential backoff with full jitter, in seconds.

    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    ceiling = min(BACKOFF_CAP_SECONDS, BACKOFF_BASE_SECONDS * 2 ** min(retries, 30))
    return random.uniform(0, ceiling)  # noqa: S311 - spreading load, not a secret
