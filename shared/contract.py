"""The wire between producers and workers: queues, task names, the ids a message carries.

A producer addresses a task by the name written here and so imports nothing of
the worker. A test holds this table equal to the tasks the worker registers.
"""

from dataclasses import dataclass

DATASET_QUEUE = "dataset"
GENERATION_QUEUE = "generation"
MAIL_QUEUE = "mail"
OPS_TRACE_QUEUE = "ops_trace"

#: The one table of queues: routes, a worker's default ``-Q``, the monitor and the probes
#: follow it; a test compares what documents and deployment files say with it.
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

DOCUMENT_SYNC = TaskContract(
    "worker.tasks.dataset.document_indexing_sync_task", DATASET_QUEUE, ("dataset_id", "document_id")
)

#: ``build_id`` may be missing: then the change is begun, if none is under way.
DEAL_DATASET_VECTOR_INDEX = TaskContract(
    "worker.tasks.dataset_index.deal_dataset_vector_index_task",
    DATASET_QUEUE,
    ("dataset_id", "action", "build_id"),
)
BUILD_DATASET_INDEX = TaskContract(
    "worker.tasks.dataset_index.build_dataset_index_task",
    DATASET_QUEUE,
    ("dataset_id", "build_id", "document_ids"),
)
CLEAN_DATASET_INDEX = TaskContract(
    "worker.tasks.dataset_index.clean_dataset_index_task", DATASET_QUEUE, ("dataset_id",)
)

#: Their arguments by position are Dify's; what waits or comes again carries the delivery's id.
MAIL_TASKS = tuple(
    TaskContract(f"worker.tasks.mail.{name}", MAIL_QUEUE, ("delivery_id",))
    for name in (
        "send_email_register_mail_task",
        "send_email_register_mail_task_when_account_exist",
        "send_email_code_login_mail_task",
        "send_reset_password_mail_task",
        "send_reset_password_mail_task_when_account_not_exist",
        "send_change_mail_task",
        "send_change_mail_completed_notification_task",
        "send_invite_member_mail_task",
        "send_owner_transfer_confirm_task",
        "send_old_owner_transfer_notify_email_task",
        "send_new_owner_transfer_notify_email_task",
        "send_account_deletion_verification_code",
        "send_deletion_success_task",
        "send_document_clean_notify_mail_task",
        "send_inner_mail_task",
        "send_test_mail_task",
    )
)
DOCUMENT_INDEXING_UPDATE = TaskContract(
    "worker.tasks.dataset.document_indexing_update_task",
    DATASET_QUEUE,
    ("dataset_id", "document_id"),
)
DUPLICATE_DOCUMENT_INDEXING = TaskContract(
    "worker.tasks.dataset.duplicate_document_indexing_task",
    DATASET_QUEUE,
    ("dataset_id", "document_ids"),
)
RETRY_DOCUMENT_INDEXING = TaskContract(
    "worker.tasks.dataset.retry_document_indexing_task",
    DATASET_QUEUE,
    ("dataset_id", "document_ids"),
)
RECOVER_DOCUMENT_INDEXING = TaskContract(
    "worker.tasks.dataset.recover_document_indexing_task",
    DATASET_QUEUE,
    ("dataset_id", "document_id"),
)
ADD_DOCUMENT_TO_INDEX = TaskContract(
    "worker.tasks.dataset.add_document_to_index_task", DATASET_QUEUE, ("document_id",)
)
REMOVE_DOCUMENT_FROM_INDEX = TaskContract(
    "worker.tasks.dataset.remove_document_from_index_task", DATASET_QUEUE, ("document_id",)
)

CLEAN_DOCUMENT = TaskContract(
    "worker.tasks.dataset.clean_document_task", DATASET_QUEUE, ("document_id", "dataset_id")
)
BATCH_CLEAN_DOCUMENT = TaskContract(
    "worker.tasks.dataset.batch_clean_document_task", DATASET_QUEUE, ("document_ids", "dataset_id")
)
CLEAN_DATASET = TaskContract(
    "worker.tasks.dataset.clean_dataset_task", DATASET_QUEUE, ("dataset_id",)
)
CLEAN_FILES = TaskContract("worker.tasks.dataset.clean_files_task", DATASET_QUEUE, ())

_SEGMENT_TASKS = {
    name: TaskContract(f"worker.tasks.dataset.{name}", DATASET_QUEUE, ids)
    for name, ids in {
        "create_segment_to_index_task": ("segment_id",),
        "update_segment_to_index_task": ("segment_id",),
        "batch_create_segment_to_index_task": ("import_id",),
        "enable_segment_to_index_task": ("segment_id",),
        "enable_segments_to_index_task": ("segment_ids", "dataset_id", "document_id"),
        "disable_segment_from_index_task": ("segment_id",),
        "disable_segments_from_index_task": ("segment_ids", "dataset_id", "document_id"),
        "delete_segment_from_index_task": ("segment_ids", "dataset_id", "document_id"),
    }.items()
}
CREATE_SEGMENT = _SEGMENT_TASKS["create_segment_to_index_task"]
UPDATE_SEGMENT = _SEGMENT_TASKS["update_segment_to_index_task"]
IMPORT_SEGMENTS = _SEGMENT_TASKS["batch_create_segment_to_index_task"]
ENABLE_SEGMENT = _SEGMENT_TASKS["enable_segment_to_index_task"]
ENABLE_SEGMENTS = _SEGMENT_TASKS["enable_segments_to_index_task"]
DISABLE_SEGMENT = _SEGMENT_TASKS["disable_segment_from_index_task"]
DISABLE_SEGMENTS = _SEGMENT_TASKS["disable_segments_from_index_task"]
DELETE_SEGMENT = _SEGMENT_TASKS["delete_segment_from_index_task"]

#: Those it carries, and others that wait for the same provider.
PROCESS_TRACE = TaskContract(
    "worker.tasks.ops_trace.process_trace_task", OPS_TRACE_QUEUE, ("delivery_ids",)
)
CLEAN_TRACES = TaskContract("worker.tasks.ops_trace.clean_traces_task", OPS_TRACE_QUEUE, ())
GENERATE_ANSWER = TaskContract(
    "worker.tasks.generation.generate_answer_task", GENERATION_QUEUE, ("message_id",)
)
GENERATE_SUMMARY = TaskContract(
    "worker.tasks.generation.generate_document_summary_task", GENERATION_QUEUE, ("document_id",)
)
GENERATE_PAIRS = TaskContract(
    "worker.tasks.generation.generate_qa_pairs_task", GENERATION_QUEUE, ("work_id",)
)
GENERATE_TITLE = TaskContract(
    "worker.tasks.generation.generate_conversation_title_task",
    GENERATION_QUEUE,
    ("conversation_id",),
)
GENERATE_CONVERSATION_SUMMARY = TaskContract(
    "worker.tasks.generation.generate_conversation_summary_task",
    GENERATION_QUEUE,
    ("conversation_id",),
)

SWEEP = TaskContract("worker.tasks.ops_trace.sweep_task", OPS_TRACE_QUEUE, ())

#: Sent to every queue; this one is only where it goes when nobody says.
PROBE = TaskContract("worker.tasks.ops_trace.probe_task", OPS_TRACE_QUEUE, ())

#: What only the schedule sends: what keeps the house in order.
_MAINTENANCE = {
    name: TaskContract(f"worker.tasks.maintenance.{name}", OPS_TRACE_QUEUE, ())
    for name in (
        "clean_results_task",
        "clean_outbox_task",
        "clean_embedding_cache_task",
        "clean_mail_task",
        "clean_unused_datasets_task",
        "mail_clean_document_notify_task",
        "dead_letter_alert_task",
        "queue_monitor_task",
        "clean_orphaned_files_task",
        "reconcile_vectors_task",
        "index_vectors_task",
    )
}
CLEAN_RESULTS = _MAINTENANCE["clean_results_task"]
CLEAN_OUTBOX = _MAINTENANCE["clean_outbox_task"]
CLEAN_EMBEDDING_CACHE = _MAINTENANCE["clean_embedding_cache_task"]
CLEAN_MAIL = _MAINTENANCE["clean_mail_task"]
CLEAN_UNUSED_DATASETS = _MAINTENANCE["clean_unused_datasets_task"]
MAIL_CLEAN_DOCUMENT_NOTIFY = _MAINTENANCE["mail_clean_document_notify_task"]
DEAD_LETTER_ALERT = _MAINTENANCE["dead_letter_alert_task"]
QUEUE_MONITOR = _MAINTENANCE["queue_monitor_task"]
CLEAN_ORPHANED_FILES = _MAINTENANCE["clean_orphaned_files_task"]
RECONCILE_VECTORS = _MAINTENANCE["reconcile_vectors_task"]
INDEX_VECTORS = _MAINTENANCE["index_vectors_task"]

#: Sent by the schedule, without a row: a run that is missed is not owed.
SCHEDULED = frozenset(
    {SWEEP.name, PROBE.name, CLEAN_TRACES.name, *(task.name for task in _MAINTENANCE.values())}
)

TASKS: tuple[TaskContract, ...] = (
    DOCUMENT_INDEXING,
    DOCUMENT_SYNC,
    DOCUMENT_INDEXING_UPDATE,
    DUPLICATE_DOCUMENT_INDEXING,
    RETRY_DOCUMENT_INDEXING,
    RECOVER_DOCUMENT_INDEXING,
    ADD_DOCUMENT_TO_INDEX,
    REMOVE_DOCUMENT_FROM_INDEX,
    CLEAN_DOCUMENT,
    BATCH_CLEAN_DOCUMENT,
    CLEAN_DATASET,
    CLEAN_FILES,
    DEAL_DATASET_VECTOR_INDEX,
    BUILD_DATASET_INDEX,
    CLEAN_DATASET_INDEX,
    *_SEGMENT_TASKS.values(),
    *MAIL_TASKS,
    PROCESS_TRACE,
    CLEAN_TRACES,
    GENERATE_ANSWER,
    GENERATE_SUMMARY,
    GENERATE_PAIRS,
    GENERATE_TITLE,
    GENERATE_CONVERSATION_SUMMARY,
    SWEEP,
    PROBE,
    *_MAINTENANCE.values(),
)
