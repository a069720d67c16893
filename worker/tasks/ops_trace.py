"""The ops_trace queue's tasks: here, what keeps the house in order."""

from celery import shared_task

from shared.contract import PROBE, SWEEP


@shared_task(name=SWEEP.name)
def sweep_task() -> None:
    """Send out again what got stuck: messages of dead workers, documents without a message."""
    from worker.wiring import sweep

    sweep()


@shared_task(name=PROBE.name)
def probe_task() -> None:
    """Do nothing: that a worker took the message is what counts (``worker.delivery.presence``)."""
