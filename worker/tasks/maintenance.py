"""What the schedule runs to keep the house in order; each run is alone, whoever sent it."""

from celery import shared_task

from shared.contract import (
    CLEAN_EMBEDDING_CACHE,
    CLEAN_MAIL,
    CLEAN_ORPHANED_FILES,
    CLEAN_OUTBOX,
    CLEAN_RESULTS,
    CLEAN_UNUSED_DATASETS,
    DEAD_LETTER_ALERT,
    INDEX_VECTORS,
    MAIL_CLEAN_DOCUMENT_NOTIFY,
    QUEUE_MONITOR,
    RECONCILE_VECTORS,
)


@shared_task(name=CLEAN_RESULTS.name)
def clean_results_task() -> None:
    """Delete results that expired."""
    from worker.wiring.maintenance import maintain

    maintain(CLEAN_RESULTS)


@shared_task(name=CLEAN_OUTBOX.name)
def clean_outbox_task() -> None:
    """Bury messages whose task there is not; delete dead letters that are old enough."""
    from worker.wiring.maintenance import maintain

    maintain(CLEAN_OUTBOX)


@shared_task(name=CLEAN_EMBEDDING_CACHE.name)
def clean_embedding_cache_task() -> None:
    """Delete vectors from the cache that nobody used for long."""
    from worker.wiring.maintenance import maintain

    maintain(CLEAN_EMBEDDING_CACHE)


@shared_task(name=CLEAN_MAIL.name)
def clean_mail_task() -> None:
    """Delete mails that ended long ago."""
    from worker.wiring.maintenance import maintain

    maintain(CLEAN_MAIL)


@shared_task(name=CLEAN_UNUSED_DATASETS.name)
def clean_unused_datasets_task() -> None:
    """Disable the documents of datasets that nobody uses."""
    from worker.wiring.maintenance import maintain

    maintain(CLEAN_UNUSED_DATASETS)


@shared_task(name=MAIL_CLEAN_DOCUMENT_NOTIFY.name)
def mail_clean_document_notify_task() -> None:
    """Tell owners what was disabled because nobody used it."""
    from worker.wiring.maintenance import maintain

    maintain(MAIL_CLEAN_DOCUMENT_NOTIFY)


@shared_task(name=DEAD_LETTER_ALERT.name)
def dead_letter_alert_task() -> None:
    """Tell of new dead letters."""
    from worker.wiring.maintenance import maintain

    maintain(DEAD_LETTER_ALERT)


@shared_task(name=QUEUE_MONITOR.name)
def queue_monitor_task() -> None:
    """Tell of queues that hold too much, or that nobody serves."""
    from worker.wiring.maintenance import maintain

    maintain(QUEUE_MONITOR)


@shared_task(name=CLEAN_ORPHANED_FILES.name)
def clean_orphaned_files_task() -> None:
    """Find stored files that no row names."""
    from worker.wiring.maintenance import maintain

    maintain(CLEAN_ORPHANED_FILES)


@shared_task(name=RECONCILE_VECTORS.name)
def reconcile_vectors_task() -> None:
    """Compare segments with their vectors, both ways."""
    from worker.wiring.maintenance import maintain

    maintain(RECONCILE_VECTORS)


@shared_task(name=INDEX_VECTORS.name)
def index_vectors_task() -> None:
    """Build indexes over the vectors of large datasets, drop those that nothing uses."""
    from worker.wiring.maintenance import maintain

    maintain(INDEX_VECTORS)
