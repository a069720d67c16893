"""What the delivery machinery counts, for Prometheus."""

from prometheus_client import Counter, Gauge

RELAY_PUBLISHED = Counter("rag_worker_relay_published", "Messages the relay published.", ["queue"])
RELAY_REPUBLISHED = Counter(
    "rag_worker_relay_republished", "Messages published again, by what was lost.", ["reason"]
)
RELAY_PASS_SECONDS = Gauge("rag_worker_relay_pass_seconds", "How long the last pass took.")
RELAY_FAILURES = Counter("rag_worker_relay_failures", "Passes that failed.", ["kind"])
OUTBOX_UNPUBLISHED = Gauge(
    "rag_worker_outbox_unpublished", "Messages that wait in the outbox.", ["queue"]
)
OUTBOX_IN_FLIGHT = Gauge(
    "rag_worker_outbox_in_flight", "Messages published and not yet done.", ["queue"]
)
OUTBOX_OLDEST_SECONDS = Gauge(
    "rag_worker_outbox_oldest_seconds", "Age of the oldest message that could go.", ["queue"]
)
BROKER_BACKLOG = Gauge("rag_worker_broker_backlog", "Messages in a broker queue.", ["queue"])
OUTBOX_TENANTS_AT_CAP = Gauge(
    "rag_worker_outbox_tenants_at_cap", "Tenants with as much in flight as they may.", ["queue"]
)
TRACE_BREAKERS_OPEN = Gauge(
    "rag_worker_trace_breakers_open", "Trace providers that are left alone since they fail."
)
DEAD_LETTERS = Gauge("rag_worker_dead_letters", "Dead letters.")
CHILDREN_DIED = Counter("rag_worker_children_died", "Pool children that died at work.")
QUEUE_CONSUMERS = Gauge(
    "rag_worker_queue_consumers", "Workers that report and serve it.", ["queue"]
)
#: From the table, so that every worker shows them whoever ran the entry.
SCHEDULE_DONE = Gauge(
    "rag_worker_schedule_done", "What all runs of an entry did, since it is known.", ["entry"]
)
SCHEDULE_FAILED = Gauge("rag_worker_schedule_failed", "Whether its last run failed.", ["entry"])
SCHEDULE_AGO_SECONDS = Gauge(
    "rag_worker_schedule_ago_seconds", "Since the end of its last run.", ["entry"]
)
