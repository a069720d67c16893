"""The ops_trace queue's tasks: traces, and what keeps the house in order."""

from celery import shared_task

from shared.contract import CLEAN_TRACES, PROBE, PROCESS_TRACE, SWEEP
from shared.errors import ServiceUnavailable


@shared_task(name=PROCESS_TRACE.name)
def process_trace_task(delivery_ids: str | list[str]) -> None:
    """Send traces to their tenant's provider, and what else waits for it."""
    raise ServiceUnavailable(f"{delivery_ids} wait: nothing here sends traces yet")


@shared_task(name=CLEAN_TRACES.name)
def clean_traces_task() -> None:
    """Delete traces that are old, and move large ones to the storage."""
    from worker.wiring import clean_old_traces

    clean_old_traces()


@shared_task(name=SWEEP.name)
def sweep_task() -> None:
    """Send out again what got stuck: messages of dead workers, documents without a message."""
    from worker.wiring import sweep

    sweep()


@shared_task(name=PROBE.name)
def probe_task() -> None:
    """Do nothing: that a worker took the message is what counts (``worker.delivery.presence``)."""
