"""What monitors are told of tasks, by the batch, in pools that have no event loop of Celery's.

Under gevent Celery sends three events a task, one by one, each under a lock that all
of the worker's greenlets wait for: with a hundred of them the events were the limit.
"""

from typing import Any

from celery import bootsteps

#: How late a monitor may hear of a task.
_FLUSH_SECONDS = 0.5
#: Only time sends a batch: a task that had to would wait for the broker, and others for it.
_MOST_EVENTS = 100_000


class BufferedEvents(bootsteps.StartStopStep):
    """Collects the events of tasks; begins anew with each connection to the broker."""

    requires = ("celery.worker.consumer.events:Events",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._timer: Any = None

    def start(self, parent: Any) -> None:
        """Begin to collect."""
        dispatcher = parent.event_dispatcher
        if parent.hub is not None or not dispatcher.enabled:
            return  # Celery's event loop does the same
        dispatcher.buffer_group = frozenset({"task"})
        dispatcher.buffer_limit = _MOST_EVENTS
        self._timer = parent.timer.call_repeatedly(_FLUSH_SECONDS, dispatcher.flush)

    def stop(self, parent: Any) -> None:  # noqa: ARG002 - the step's shape
        """End it; with a lost connection goes what was not sent yet, as in Celery's own loop."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    terminate = stop

    def shutdown(self, parent: Any) -> None:
        """Send the rest."""
        if parent.event_dispatcher is not None:
            parent.event_dispatcher.flush()
