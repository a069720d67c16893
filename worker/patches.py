"""What must be in place before the first connection of a worker.

The ``celery`` command monkey-patches the standard library for ``-P gevent``
before it imports the app; psycopg2 waits in C and needs its own hook.
"""

import os
from typing import Any

from celery.signals import celeryd_init
from celery.worker.consumer.gossip import Gossip
from celery.worker.consumer.mingle import Mingle
from gevent import monkey
from kombu.transport import TRANSPORT_ALIASES


def patch_drivers() -> None:
    """Fit drivers and transport for a worker that must outlive its servers."""
    # Processes are the parallelism: threads of each on the same cores cost a tenth more CPU.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if monkey.is_module_patched("socket"):
        from psycogreen.gevent import patch_psycopg

        patch_psycopg()
    # Workers need no news of each other here, and both steps end a worker whose broker goes
    # away while they ask for it.
    Mingle.compatible_transports = set()
    Gossip.compatible_transports = set()
    TRANSPORT_ALIASES.update(
        redis="worker.delivery.broker_transport:Transport",
        rediss="worker.delivery.broker_transport:Transport",
        sentinel="worker.delivery.broker_transport:SentinelTransport",
    )


@celeryd_init.connect
def follow_concurrency(conf: Any, options: dict[str, Any], **_: Any) -> None:
    """Let the broker's connections grow with ``-c``: short of them, acknowledgements fail."""
    concurrency = options.get("concurrency") or conf.worker_concurrency or 0
    conf.broker_pool_limit = max(conf.broker_pool_limit, concurrency)
    transport = conf.broker_transport_options
    conf.broker_transport_options = transport | {
        # One for an acknowledgement, one for what the task itself publishes.
        "max_connections": max(transport["max_connections"], 2 * concurrency + 50)
    }
