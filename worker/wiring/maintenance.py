"""What the schedule's tasks do, each with what it needs; one run of each at a time."""

import logging
import platform
from collections.abc import Callable

from flask import current_app

from shared.contract import (
    CLEAN_EMBEDDING_CACHE,
    CLEAN_MAIL,
    CLEAN_ORPHANED_FILES,
    CLEAN_OUTBOX,
    CLEAN_RESULTS,
    CLEAN_TRACES,
    CLEAN_UNUSED_DATASETS,
    DEAD_LETTER_ALERT,
    INDEX_VECTORS,
    MAIL_CLEAN_DOCUMENT_NOTIFY,
    QUEUE_MONITOR,
    QUEUES,
    RECONCILE_VECTORS,
    SWEEP,
    TaskContract,
)
from shared.errors import ServiceUnavailable
from shared.models import db
from shared.queueing.publishing import BROKER_ERRORS
from shared.settings import Settings
from shared.settings.schedule import addresses
from shared.submitting.mail import MailRules
from worker.delivery import runs
from worker.delivery.alone import Done, Turn, Work, run_alone
from worker.delivery.nodes import Patience
from worker.delivery.queue_state import QueueState, queue_states
from worker.services.dataset.keyword_statistics import measure_words
from worker.services.dataset.stored_orphans import clean_orphaned_files
from worker.services.dataset.unused import disable_unused_datasets
from worker.services.dataset.unused_notice import notify_owners
from worker.services.dataset.vector_reconciling import ReconcileNeeds, reconcile_vectors
from worker.services.mail.giving_up import purge_mail
from worker.services.ops_trace.alerts import AlertNeeds
from worker.services.ops_trace.dead_letter_alert import alert_of_dead_letters
from worker.services.ops_trace.purging import purge_outbox, purge_results
from worker.services.ops_trace.queue_monitor import QueueLimits, monitor_queues
from worker.stores.files import StoredFiles
from worker.stores.pgvector_indexes import BuildLimits, keep_indexes
from worker.wiring.embedders import embedding_cache
from worker.wiring.foundations import heartbeat, sessions
from worker.wiring.ops_trace import clean_old_traces
from worker.wiring.sweeping import collect_vectors, sweep_queues
from worker.wiring.vectors import vector_stores

logger = logging.getLogger(__name__)

_DAY_SECONDS = 86400


def maintain(task: TaskContract) -> None:
    """Do what an entry of the schedule is for, unless another worker is at it."""
    settings = _settings()
    for name, work, rest_seconds in _jobs(task, settings):
        run_alone(
            name,
            work,
            sessions=sessions(),
            heartbeat=heartbeat(),
            lease_seconds=settings.delivery.delivery_lease_seconds,
            rest_seconds=rest_seconds,
        )


def queues_now(settings: Settings) -> list[QueueState]:
    """Every queue as it stands.

    Raises:
        ServiceUnavailable: the broker does not answer.
    """
    celery = current_app.extensions["celery"]
    try:
        with celery.connection_for_write() as connection:
            return queue_states(
                db.engine, connection, QUEUES, Patience.of(settings), platform.node()
            )
    except BROKER_ERRORS as error:
        raise ServiceUnavailable(f"the broker does not answer: {error}") from error


def _settings() -> Settings:
    settings: Settings = current_app.extensions["settings"]
    return settings


def _jobs(task: TaskContract, settings: Settings) -> list[tuple[str, Work, float]]:
    name = task.name.rpartition(".")[2].removesuffix("_task")
    if task is SWEEP:
        # Two, so that a vector store that is slow keeps nobody from sweeping.
        vectors = _counted(collect_vectors, "leavings of vectors deleted")
        return [(name, _counted(sweep_queues, "sent again"), 0), ("collect_vectors", vectors, 0)]
    if task is QUEUE_MONITOR:
        # Workers look by themselves too: one of them is enough.
        return [(name, _monitor, settings.schedule.queue_monitor_seconds / 2)]
    if task is INDEX_VECTORS:
        # Both are for datasets that have become large.
        return [(name, _index_vectors, 0), ("measure_words", _measure_words, 0)]
    return [(name, _WORK[task], 0)]


def _counted(work: Callable[[], int], words: str) -> Work:
    def run(turn: Turn) -> Done:  # noqa: ARG001 - it begins at the beginning
        number = work()
        return Done(number, f"{number} {words}")

    return run


def _clean_results() -> int:
    return purge_results(sessions(), _settings().celery.celery_result_expires_seconds)


def _clean_outbox() -> int:
    celery = current_app.extensions["celery"]
    celery.loader.import_default_modules()
    return purge_outbox(sessions(), list(celery.tasks), _settings().schedule.dead_letter_days)


def _clean_embedding_cache() -> int:
    days = _settings().embedding.embedding_cache_days
    return embedding_cache().purge(days, after_batch=runs.checkpoint)


def _clean_mail() -> int:
    return purge_mail(sessions(), _settings().mail.mail_retention_days)


def _clean_traces(turn: Turn) -> Done:  # noqa: ARG001 - it begins at the beginning
    done = clean_old_traces()
    words = f"{done.deleted} traces deleted, {done.moved} moved to the storage"
    return Done(done.deleted + done.moved, words)


def _clean_unused_datasets() -> int:
    return disable_unused_datasets(sessions(), _settings().schedule.unused_datasets_days)


def _notify_owners() -> int:
    settings, celery = _settings(), current_app.extensions["celery"]
    days = settings.schedule.auto_disable_log_days
    return notify_owners(sessions(), MailRules.of(settings), celery, days)


def _alert_of_dead_letters(turn: Turn) -> Done:
    needs = _alert_needs(_settings().schedule.dead_letter_alert_emails)
    return alert_of_dead_letters(sessions(), turn, needs)


def _monitor(turn: Turn) -> Done:
    settings = _settings()
    schedule = settings.schedule
    limits = QueueLimits(schedule.queue_monitor_threshold, schedule.queue_monitor_oldest_seconds)
    needs = _alert_needs(schedule.queue_monitor_alert_emails)
    return monitor_queues(queues_now(settings), limits, turn, needs)


def _clean_orphaned_files(turn: Turn) -> Done:
    schedule = _settings().schedule
    return clean_orphaned_files(
        sessions(),
        StoredFiles(current_app.extensions["storage"]),
        turn,
        older_than_seconds=schedule.storage_orphan_days * _DAY_SECONDS,
        deletes=schedule.storage_orphans_delete,
    )


def _reconcile_vectors(turn: Turn) -> Done:
    schedule = _settings().schedule
    needs = ReconcileNeeds(
        sessions=sessions(),
        vectors=vector_stores(),
        celery=current_app.extensions["celery"],
        deletes=schedule.vector_orphans_delete,
        rebuilds=schedule.vectors_rebuild,
    )
    return reconcile_vectors(turn, needs)


def _index_vectors(turn: Turn) -> Done:
    settings = _settings().vectors
    limits = BuildLimits(
        settings.vector_index_least_segments,
        settings.vector_index_megabytes,
        is_default=settings.vector_store == "pgvector",
    )
    done = []
    for words in keep_indexes(db.engine, limits):
        done.append(words)
        logger.info("%s", words, extra={"action": "vectors.indexed"})
        # A worker that was taken for dead builds no second one.
        turn.reach(None)
    return Done(len(done), ", ".join(done) or "nothing to build")


def _measure_words(turn: Turn) -> Done:
    number = 0
    for _ in measure_words(sessions()):
        number += 1
        turn.reach(None)
    return Done(number, f"words of {number} datasets measured")


def _alert_needs(recipients: str) -> AlertNeeds:
    settings = _settings()
    return AlertNeeds(
        sessions=sessions(),
        rules=MailRules.of(settings),
        celery=current_app.extensions["celery"],
        recipients=addresses(recipients),
        again_seconds=settings.schedule.alert_mail_seconds,
    )


_WORK: dict[TaskContract, Work] = {
    CLEAN_RESULTS: _counted(_clean_results, "results deleted"),
    CLEAN_OUTBOX: _counted(_clean_outbox, "messages and dead letters cleaned up"),
    CLEAN_EMBEDDING_CACHE: _counted(_clean_embedding_cache, "vectors deleted"),
    CLEAN_MAIL: _counted(_clean_mail, "mails deleted"),
    CLEAN_TRACES: _clean_traces,
    CLEAN_UNUSED_DATASETS: _counted(_clean_unused_datasets, "documents disabled"),
    MAIL_CLEAN_DOCUMENT_NOTIFY: _counted(_notify_owners, "mails to owners"),
    DEAD_LETTER_ALERT: _alert_of_dead_letters,
    CLEAN_ORPHANED_FILES: _clean_orphaned_files,
    RECONCILE_VECTORS: _reconcile_vectors,
}
