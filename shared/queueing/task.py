"""``FlaskTask``: every task runs in an app context, and its error family decides how it ends."""

import logging
import math
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn, Protocol
from uuid import UUID

from celery import Task
from celery.exceptions import Ignore, Reject
from flask import Flask
from sqlalchemy.orm import Session

from shared.errors import InvalidRequest, Permanent, RagWorkerError, Superseded, Transient
from shared.models import db
from shared.queueing import outbox
from shared.queueing.outage import SERVER_LOST

logger = logging.getLogger(__name__)

BACKOFF_BASE_SECONDS = 1.0
BACKOFF_CAP_SECONDS = 300.0


class Delivery(Protocol):
    """What a worker does round every task; see ``worker.delivery.execution``."""

    def run(self, task: "FlaskTask", call: Callable[[], Any]) -> Any:
        """Run the task's body."""


class FlaskTask(Task):  # type: ignore[type-arg]
    """A task ends in one of four ways, mapped here and nowhere else.

    ==============  ====================================================
    returns         done; acknowledged
    ``Transient``   retried with full jitter; ``retry_after_seconds`` honoured
    ``Permanent``   FAILURE, one log line, no traceback; not retried
    ``Superseded``  acknowledged, nothing stored
    ==============  ====================================================

    Each run has its own app context and so its own database session, removed
    when the task ends, whatever its end.

    Attributes:
        deadline_seconds: the longest a run may take; the setting's, when unset.
        stall_seconds: the longest it may go without a checkpoint; likewise.
        max_retries: retries before it becomes a dead letter; likewise.
    """

    abstract = True
    throws = (Permanent, InvalidRequest)
    max_retries: int | None = 10
    deadline_seconds: float | None = None
    stall_seconds: float | None = None

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
                logger.info(
                    "%s: %s", self.name, reason, extra={"action": "task.superseded", "args_": args}
                )
                if self.request.called_directly:
                    raise
                raise Ignore from reason
            except Transient as error:
                self._try_again(error, error.retry_after_seconds)
            except SERVER_LOST as error:
                self._try_again(error)

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

    def revive(self, session: Session, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Undo ``abandon`` in the session's transaction: a dead letter is replayed."""

    def _try_again(self, error: Exception, wanted_seconds: float | None = None) -> NoReturn:
        delay_seconds = wanted_seconds or backoff_seconds(self.request.retries)
        # A message that waits for longer than the visibility timeout is handed out twice.
        ceiling = self.app.conf.broker_transport_options.get("visibility_timeout", math.inf) / 2
        try:
            raise self.retry(exc=error, countdown=min(delay_seconds, ceiling)) from error
        except Reject as lost:
            # The broker took no new message: the one in hand must not be dropped.
            raise Reject(error, requeue=True) from lost


def backoff_seconds(retries: int) -> float:
    """Exponential backoff with full jitter, in seconds.

    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    ceiling = min(BACKOFF_CAP_SECONDS, BACKOFF_BASE_SECONDS * 2 ** min(retries, 30))
    return random.uniform(0, ceiling)  # noqa: S311 - spreading load, not a secret
