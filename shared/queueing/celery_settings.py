"""Settings as Celery's configuration, a reason a line."""

import ssl
from collections.abc import Mapping
from typing import Any

from kombu import Exchange, Queue

from shared.contract import QUEUES, TASKS
from shared.queueing.publishing import Bounds
from shared.queueing.result_backend import result_backend_settings
from shared.settings import Settings

_TLS_REQUIREMENT = {
    "required": ssl.CERT_REQUIRED,
    "optional": ssl.CERT_OPTIONAL,
    "none": ssl.CERT_NONE,
}

#: What kombu's reads may wait for a message, and as much again for a busy server.
_BLOCKING_READ_SECONDS = 4


def celery_settings(settings: Settings) -> dict[str, Any]:
    """The whole configuration of the Celery app."""
    celery = settings.celery
    return {
        **_broker(settings),
        **_results(settings),
        **_queues(),
        # A message goes when its work is done: a worker that dies gives it back.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        # One message in hand a slot: the rest stays where another worker can take it.
        "worker_prefetch_multiplier": 1,
        # JSON only: nobody who can write to the broker may run code in a worker.
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        "event_serializer": "json",
        # Flower's live view.
        "worker_send_task_events": True,
        # Flower shows a task when a worker receives it; an event at each publish doubles its cost.
        "task_send_sent_event": False,
        "task_track_started": False,  # a second result write per task, for what events show already
        "task_soft_time_limit": celery.celery_task_soft_time_limit_seconds,
        "task_time_limit": celery.celery_task_time_limit_seconds,
        "worker_max_memory_per_child": celery.celery_max_memory_per_child_kilobytes,
        # After SIGTERM running tasks get this long before they are handed back.
        "worker_soft_shutdown_timeout": celery.celery_soft_shutdown_timeout_seconds,
        "worker_enable_soft_shutdown_on_idle": False,
        # Lost broker: tasks in hand are the leases' concern, not lost and not cancelled.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_hijack_root_logger": False,  # our handler and format stay
        # Ours: what a producer may publish right after its commit.
        "outbox_bounds": Bounds(
            settings.delivery.outbox_tenant_cap, settings.delivery.outbox_high_water_mark
        ),
        "delivery_max_retries": settings.delivery.delivery_max_attempts - 1,
        "enable_utc": True,
        "timezone": "UTC",
    }


def _queues() -> dict[str, Any]:
    return {
        "task_queues": tuple(
            Queue(name, Exchange(name, type="direct"), routing_key=name) for name in QUEUES
        ),
        "task_routes": {task.name: {"queue": task.queue} for task in TASKS},
        "task_default_queue": QUEUES[0],
        # A queue nobody serves is the oldest cause of "stuck in queuing": an error at publish.
        "task_create_missing_queues": False,
    }


def _broker(settings: Settings) -> dict[str, Any]:
    broker = settings.broker
    timeout_seconds = settings.redis.redis_socket_timeout_seconds
    transport: dict[str, Any] = {
        "visibility_timeout": settings.celery.celery_visibility_timeout_seconds,
        "health_check_interval": 25,
        "socket_keepalive": True,
        "socket_timeout": timeout_seconds + _BLOCKING_READ_SECONDS,
        "socket_connect_timeout": timeout_seconds,
        # kombu keeps 10 by default: with 100 greenlets late acknowledgements fail and run again.
        "max_connections": 200,
    }
    tls = broker_tls(broker.tls) if broker.tls is not None else None
    if broker.login is not None:
        transport["master_name"] = broker.login.service_name
        transport["sentinel_kwargs"] = {
            "username": broker.login.username,
            "password": broker.login.password,
            "socket_timeout": timeout_seconds,
            "socket_connect_timeout": timeout_seconds,
            # kombu's TLS settings are the primary's alone.
            **({"ssl": True, **tls} if tls else {}),
        }
    return {
        "broker_url": broker.url,
        "broker_use_ssl": tls,
        "broker_transport_options": transport,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,  # a worker outlives any broker outage
        "broker_pool_limit": 50,
    }


def broker_tls(options: Mapping[str, str]) -> dict[str, Any]:
    """TLS options of redis-py in the types that kombu and redbeat hand on."""
    return {**options, "ssl_cert_reqs": _TLS_REQUIREMENT[options["ssl_cert_reqs"]]}


def _results(settings: Settings) -> dict[str, Any]:
    celery = settings.celery
    own = celery.celery_backend == "database"
    return {
        # This project's own keeps results in the same database as everything else.
        **(
            result_backend_settings(settings.database.uri)
            if own
            else {"result_backend": celery.celery_backend}
        ),
        "result_expires": celery.celery_result_expires_seconds,
        "result_extended": True,  # the name and worker of a failed task are worth their bytes
        # Rows are the truth; a task that wants its value kept says ignore_result=False.
        "task_ignore_result": True,
        "task_store_errors_even_if_ignored": True,
        # Celery's backend is per thread; under gevent that means one a task, with its own engine.
        "result_backend_thread_safe": True,
        "database_create_tables_at_setup": False,  # our migrations do
    }
