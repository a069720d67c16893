"""The ops_trace queue's tasks: traces on their way, and what keeps the house in order."""

from celery import shared_task

from shared.contract import CLEAN_TRACES, PROBE, PROCESS_TRACE, SWEEP
from worker.tasks.trace_task import TraceTask


@shared_task(name=PROCESS_TRACE.name, base=TraceTask)
def process_trace_task(delivery_ids: str | list[str]) -> None:
    """Send traces to their tenant's provider, and what else waits for it."""
    from worker.services.ops_trace.exporting import deliver_traces
    from worker.services.ops_trace.trace_announcing import delivery_ids as parsed
    from worker.wiring import export_needs

    deliver_traces(parsed(delivery_ids), export_needs())


@shared_task(name=CLEAN_TRACES.name)
def clean_traces_task() -> None:
    """Delete traces that are old, and move large ones to the storage."""
    from worker.wiring.maintenance import maintain

    maintain(CLEAN_TRACES)


@shared_task(name=SWEEP.name)
def sweep_task() -> None:
    """Send out again what got stuck: messages of dead workers, documents without a message."""
    from worker.wiring.maintenance import maintain

    maintain(SWEEP)


@shared_task(name=PROBE.name)
def probe_task() -> None:
    """Do nothing: that a worker took the message is what counts (``worker.delivery.presence``)."""
