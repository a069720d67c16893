"""A message as the broker brought it to this worker."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

from shared.contract import QUEUES, TASKS
from shared.queueing import trace_context
from shared.queueing.publishing import plain_json
from shared.queueing.task import FlaskTask

_OF_DATASETS = frozenset(task.name for task in TASKS if task.ids[:1] == ("dataset_id",))


@dataclass(frozen=True, slots=True)
class Delivered:
    """What is known of a message before anything is asked about it.

    Read once: Celery keeps a task's request for the thread that runs it alone, and
    the watchdog, which may have to end the run, is another one.
    """

    task: FlaskTask
    #: Celery's id of the task.
    task_id: str
    #: The same as the outbox has it: callers of ``.delay()`` may choose ids that are no UUID.
    id: UUID
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    #: Whether it came from the outbox, where its row is.
    has_row: bool
    tenant_id: str | None
    queue: str
    retries: int
    #: Whether the broker handed it out before: that worker died, or gave it back.
    is_redelivered: bool
    #: Whether other tasks hang on this one; only Celery's own messages can say so.
    is_part_of_canvas: bool
    #: Whose trace it belongs to.
    headers: Mapping[str, str]

    @classmethod
    def to(cls, task: FlaskTask) -> "Delivered":
        """The message the running task was called for."""
        request: Any = task.request
        delivery: Mapping[str, Any] = request.delivery_info or {}
        queue = delivery.get("routing_key")
        return cls(
            task=task,
            task_id=str(request.id),
            id=message_id(str(request.id)),
            args=request.args or (),
            kwargs=request.kwargs or {},
            has_row=task.has_row,
            tenant_id=getattr(request, "tenant_id", None),
            queue=queue if queue in QUEUES else QUEUES[0],
            retries=request.retries or 0,
            is_redelivered=bool(delivery.get("redelivered")),
            is_part_of_canvas=task.is_part_of_canvas,
            headers=trace_context.sound(vars(request)),
        )

    def __str__(self) -> str:
        return f"{self.task.name}[{self.task_id}]"

    @property
    def dataset_id(self) -> UUID | None:
        """The dataset it is about, if its task is about one."""
        if self.task.name not in _OF_DATASETS:
            return None
        value = self.args[0] if self.args else self.kwargs.get("dataset_id")
        try:
            return UUID(value)
        except (ValueError, TypeError, AttributeError):
            return None

    def row(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """What a message that came by plain ``.delay()`` has in the outbox.

        Args:
            args: what the task is called with next; the same as now, when unset.
            kwargs: the same by name.
        """
        positional, named = self.task.at_rest(
            self.args if args is None else args, self.kwargs if kwargs is None else kwargs, self.id
        )
        return {
            "id": self.id,
            "tenant_id": self.tenant_id,
            "dataset_id": self.dataset_id,
            "task": self.task.name,
            "queue": self.queue,
            "args": json.dumps(plain_json(list(positional))),
            "kwargs": json.dumps(plain_json(dict(named))),
            "headers": json.dumps(self.headers) if self.headers else None,
        }


def message_id(task_id: str) -> UUID:
    """The id of a Celery task as the outbox has it."""
    try:
        return UUID(task_id)
    except ValueError:
        return uuid5(NAMESPACE_OID, task_id)
