"""Queues that need looking after: too much waits, for too long, or nobody takes it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from worker.delivery.alone import Done, Turn
from worker.delivery.queue_state import QueueState
from worker.services.ops_trace.alerts import AlertNeeds, alert


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """What is too much; 0 is never.

    Attributes:
        messages: waiting in one queue.
        oldest_seconds: age of the oldest that waits.
    """

    messages: int
    oldest_seconds: float


def problems_of(
    state: QueueState, limits: QueueLimits, unserved_before: Collection[str]
) -> str | None:
    """What is wrong with one queue, in a line; ``None`` when nothing is, or a person paused it.

    Without a consumer it is at the second look: a worker that starts anew is none at the first.
    """
    if state.is_paused:
        return None
    what = []
    if not state.consumers and state.queue in unserved_before:
        what.append("no live worker serves it")
    if limits.messages and state.depth > limits.messages:
        more = "" if state.is_counted_whole else " or more"
        what.append(f"{state.depth}{more} messages wait, more than {limits.messages}")
    if limits.oldest_seconds and state.oldest_seconds > limits.oldest_seconds:
        what.append(f"the oldest message waits for {state.oldest_seconds:.0f} s")
    return ", ".join(what) or None


def monitor_queues(
    states: Sequence[QueueState], limits: QueueLimits, turn: Turn, needs: AlertNeeds
) -> Done:
    """Tell of each queue that has a problem, and note which had no consumer."""
    before = (turn.position or "").split(",")
    problems = {one.queue: problems_of(one, limits, before) for one in states}
    found = {queue: line for queue, line in problems.items() if line is not None}
    for queue, line in found.items():
        alert(f"queue {queue}", line, needs)
    turn.reach(",".join(one.queue for one in states if not one.consumers))
    return Done(len(found), "; ".join(f"{queue}: {line}" for queue, line in found.items()))
