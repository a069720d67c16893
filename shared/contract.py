"""The wire between producers and workers: queues, task names, the ids a message carries.

A producer addresses a task by the name written here and so imports nothing of
the worker. A test holds this table equal to the tasks the worker registers.
"""

from dataclasses import dataclass

DATASET_QUEUE = "dataset"
GENERATION_QUEUE = "generation"
MAIL_QUEUE = "mail"
OPS_TRACE_QUEUE = "ops_trace"

QUEUES = (DATASET_QUEUE, GENERATION_QUEUE, MAIL_QUEUE, OPS_TRACE_QUEUE)


@dataclass(frozen=True, slots=True)
class TaskContract:
    """One task as both sides see it.

    Attributes:
        name: What the message says; never changes once released.
        queue: One of ``QUEUES``.
        ids: The names of the positional arguments, ids only, never content.
    """

    name: str
    queue: str
    ids: tuple[str, ...]


DOCUMENT_INDEXING = TaskContract(
    "worker.tasks.dataset.document_indexing_task", DATASET_QUEUE, ("dataset_id", "document_ids")
)

SWEEP = TaskContract("worker.tasks.ops_trace.sweep_task", OPS_TRACE_QUEUE, ())

#: Sent to every queue; this one is only where it goes when nobody says.
PROBE = TaskContract("worker.tasks.ops_trace.probe_task", OPS_TRACE_QUEUE, ())

TASKS: tuple[TaskContract, ...] = (DOCUMENT_INDEXING, SWEEP, PROBE)
