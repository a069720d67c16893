"""What a worker counts itself, for Prometheus; what servers know is in ``figures``.

All of it lives in the worker's main process, where every message begins and ends: a
child that is recycled or killed takes nothing with it.
"""

from collections import Counter as Tally
from collections.abc import Iterator, Mapping
from typing import Any

from celery.worker import state
from prometheus_client import (
    Counter,
    Gauge,
    Histogram,
    Metric,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from shared.contract import QUEUES
from worker.delivery.shared_counter import SharedCounter
from worker.delivery.tenant_labels import OTHER

# A second series beside each counter: Prometheus does without.
disable_created_metrics()  # type: ignore[no-untyped-call]

#: Seconds. From a task that finds nothing to do to a book that is indexed.
_BUCKETS = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600,
)  # fmt: skip

TASKS = Counter("rag_worker_tasks", "Runs of tasks, by how they ended.", ["task", "queue", "state"])
TENANT_TASKS = Counter(
    "rag_worker_tenant_tasks", "Runs of tasks that a tenant's messages caused.", ["tenant", "state"]
)
TASK_SECONDS = Histogram(
    "rag_worker_task_duration_seconds",
    "How long runs took, of those that did something.",
    ["task", "queue"],
    buckets=_BUCKETS,
)
EMBEDDING_TOKENS = SharedCounter(
    "rag_worker_embedding_tokens",
    "Tokens that models turned into vectors; of remote models, estimated.",
    ["model", "tenant"],
)
RELAY_PUBLISHED = Counter("rag_worker_relay_published", "Messages the relay published.", ["queue"])
RELAY_REPUBLISHED = SharedCounter(
    "rag_worker_relay_republished", "Messages published again, by what was lost.", ["reason"]
)
RELAY_PASS_SECONDS = Gauge("rag_worker_relay_pass_seconds", "How long the last pass took.")
RELAY_FAILURES = Counter("rag_worker_relay_failures", "Passes that failed.", ["kind"])
CLOCK_OFFSET_SECONDS = Gauge(
    "rag_worker_clock_offset_seconds", "This host's clock less the database's."
)
CHILDREN_DIED = Counter("rag_worker_children_died", "Pool children that died at work.")


def queue_label(delivery_info: Mapping[str, Any]) -> str:
    """The queue a message came from; strangers' are one series together."""
    queue = delivery_info.get("routing_key")
    return str(queue) if queue in QUEUES else OTHER


class RunningTasks(Collector):
    """The tasks that run at this moment, as Celery's main process knows them."""

    def describe(self) -> list[Metric]:
        """The family, without samples."""
        return [self._family()]

    def collect(self) -> Iterator[Metric]:
        """A sample for each task that runs."""
        family = self._family()
        # A copy in one step: the consumer adds and removes meanwhile.
        active: Any = state.active_requests
        requests = [found for one in active.data.copy() if (found := one())]
        running = Tally((one.name, queue_label(one.delivery_info)) for one in requests)
        for (task, queue), number in running.items():
            family.add_metric([task, queue], number)
        yield family

    def _family(self) -> GaugeMetricFamily:
        name, text = "rag_worker_tasks_running", "Tasks that run now."
        return GaugeMetricFamily(name, text, labels=["task", "queue"])
