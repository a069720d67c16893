"""``FlaskTask``: every task runs in an app context, and its error family decides how it ends."""

import logging
import math
import random
from typing import Any, ClassVar, NoReturn

from celery import Task
from celery.exceptions import Ignore, Reject
from flask import Flask

from shared.errors import InvalidRequest, Permanent, Superseded, Transient
from shared.queueing.outage import SERVER_LOST

logger = logging.getLogger(__name__)

BACKOFF_BASE_SECONDS = 1.0
BACKOFF_CAP_SECONDS = 300.0


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
    """

    abstract = True
    throws = (Permanent, InvalidRequest)
    max_retries: int | None = 10
    flask_app: ClassVar[Flask]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task; see the class for what each family of errors becomes."""
        with self.flask_app.app_context():
            try:
                return super().__call__(*args, **kwargs)
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


def task_class(app: Flask) -> type[FlaskTask]:
    """The task base of one Flask app: two apps can live in one process."""
    return type("AppTask", (FlaskTask,), {"flask_app": app, "abstract": True})
