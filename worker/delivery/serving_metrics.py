"""A worker's metrics at ``/metrics``, from its main process."""

import logging

from prometheus_client import REGISTRY, start_http_server

from worker.delivery.measuring import Measurement
from worker.delivery.metrics import RunningTasks

logger = logging.getLogger(__name__)


def serve_metrics(host: str, port: int, ports: int, measurement: Measurement) -> int | None:
    """Serve the metrics until the process ends.

    Ports that somebody else has cost the metrics, not the worker.

    Args:
        host: the address.
        port: the first to try; 0: none.
        ports: how many to try: each worker of a host needs its own.
        measurement: what the servers know.

    Returns:
        The port; ``None``: the metrics are not served.
    """
    if not port:
        return None
    REGISTRY.register(RunningTasks())
    REGISTRY.register(measurement)
    reason: OSError | None = None
    for tried in range(port, min(port + ports, 65536)):
        try:
            start_http_server(tried, host)
        except OSError as error:
            reason = error
            continue
        logger.info("metrics at %s:%s", host, tried, extra={"action": "metrics.served"})
        return tried
    logger.error(
        "no metrics at %s:%s, nor %s ports after it: %s",
        host, port, ports - 1, reason, extra={"action": "metrics.not_served"},
    )  # fmt: skip
    return None
