"""gunicorn for the HTTP service and for your own: greenlets that wait without blocking others.

``gunicorn -c gunicorn.conf.py worker.web_app:app``

gunicorn patches the standard library in each of its workers. psycopg2 and gRPC wait in C,
each needs its hook, and both at that moment: after the patch, before any connection.
"""

import os
from importlib.util import find_spec

from gevent import events

bind = os.environ.get("WEB_BIND", "127.0.0.1:8000")
workers = int(os.environ.get("WEB_CONCURRENCY", "1"))
worker_class = "gevent"
worker_connections = 1000
# An answer may take its time; a request that waits in greenlets does not hold up the worker.
timeout = 60
graceful_timeout = 30
keepalive = 75
# The application is made in each worker: no connection is shared by a fork.
preload_app = False
# Its home may be one that cannot be written, as in a container, and nobody asks there.
control_socket_disable = True
# Where a probe may be the first to notice, nothing is written for it.
accesslog = None


def patch_drivers(event: object) -> None:
    """Fit what waits in C to greenlets, once all else is patched."""
    if not isinstance(event, events.GeventDidPatchBuiltinModulesEvent):
        return
    from psycogreen.gevent import patch_psycopg

    patch_psycopg()
    if find_spec("grpc") is not None:
        from grpc.experimental import gevent as grpc_gevent

        grpc_gevent.init_gevent()


events.subscribers.append(patch_drivers)
