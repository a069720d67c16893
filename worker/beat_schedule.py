"""The schedule as one table: entry, period, task, queue."""

import logging
from datetime import timedelta
from typing import Any

from redbeat import RedBeatScheduler
from redis.exceptions import LockError, RedisError

from shared.contract import CLEAN_TRACES, OPS_TRACE_QUEUE, PROBE, QUEUES, SWEEP
from shared.queueing.celery_settings import broker_tls
from shared.queueing.publishing import BROKER_ERRORS
from shared.settings import Settings
from worker.delivery.presence import backlog_of

Entry = tuple[str, str, timedelta, str]

#: ``(entry, task, period, queue)``; the reason stands beside each row.
ENTRIES: tuple[Entry, ...] = (
    # What got stuck goes out again: see ``worker.delivery.sweeper``; SWEEP_SECONDS says how often.
    ("sweep", SWEEP.name, timedelta(seconds=30), SWEEP.queue),
    # Results are a convenience, not the truth: they go after CELERY_RESULT_EXPIRES_SECONDS.
    # Under the name of Celery's own entry, which would put it into the default queue once a day.
    ("celery.backend_cleanup", "celery.backend_cleanup", timedelta(hours=1), OPS_TRACE_QUEUE),
    # Old traces go after TRACE_DELIVERED_RETENTION_DAYS and TRACE_FAILED_RETENTION_DAYS.
    ("clean_traces", CLEAN_TRACES.name, timedelta(hours=1), CLEAN_TRACES.queue),
    # A worker on an idle queue proves that it consumes: see ``worker.delivery.nodes``.
    *((f"probe.{queue}", PROBE.name, timedelta(seconds=30), queue) for queue in QUEUES),
)

#: A beat that dies frees the schedule after this long.
LOCK_SECONDS = 15


#: How long beat waits before it asks again a Redis that is away.
RETRY_SECONDS = 2.0

logger = logging.getLogger(__name__)


class Scheduler(RedBeatScheduler):  # type: ignore[misc]
    """RedBeat that outlives a Redis that is away, or was emptied, and piles up no probes.

    Stock RedBeat ends when its lock is gone; without the lock it would go on
    with the empty schedule it finds.
    """

    def apply_async(self, entry: Any, **kwargs: Any) -> Any:
        """Send an entry's task; no probe to a queue that holds something to consume."""
        if entry.task == PROBE.name and self._holds_messages(entry.options["queue"]):
            return self.reserve(entry)
        return super().apply_async(entry, **kwargs)

    def _holds_messages(self, queue: str) -> bool:
        # What expired in a queue that nobody serves stays there: one a period, for ever.
        try:
            with self.app.connection_for_write() as connection:
                return bool(backlog_of(connection, [queue])[queue])
        except BROKER_ERRORS:
            return True

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send what is due; returns the seconds until the next call."""
        try:
            return float(super().tick(*args, **kwargs))
        except LockError:
            logger.warning("beat lost its lock: starting over", extra={"action": "beat.lost"})
        except RedisError as error:
            logger.warning("beat waits for Redis: %s", error, extra={"action": "beat.waits"})
            return RETRY_SECONDS
        return self._start_over()

    def _start_over(self) -> float:
        try:
            self.lock.acquire()  # waits while another beat has it
            self.setup_schedule()
        except RedisError as error:
            logger.warning("beat waits for Redis: %s", error, extra={"action": "beat.waits"})
            return RETRY_SECONDS
        return 0.0


def beat_settings(settings: Settings) -> dict[str, Any]:
    """Celery settings of RedBeat, whose lock lets one beat fire and another take over."""
    return {
        "beat_scheduler": f"{Scheduler.__module__}:{Scheduler.__name__}",
        "beat_max_loop_interval": 5,
        **_redis(settings),
        "redbeat_key_prefix": "rag-worker:beat:",
        "redbeat_lock_timeout": LOCK_SECONDS,
        "beat_schedule": {
            name: {
                "task": task,
                "schedule": period,
                # Missed runs are not owed: the next one does the same work.
                "options": {"queue": queue, "expires": period.total_seconds()},
            }
            for name, task, period, queue in _entries(settings)
        },
    }


def _entries(settings: Settings) -> list[Entry]:
    periods = {
        SWEEP.name: timedelta(seconds=settings.delivery.sweep_seconds),
        PROBE.name: timedelta(seconds=settings.presence.probe_seconds),
    }
    return [(name, task, periods.get(task, period), queue) for name, task, period, queue in ENTRIES]


def _redis(settings: Settings) -> dict[str, Any]:
    server = settings.guards
    timeout_seconds = settings.redis.redis_socket_timeout_seconds
    options: dict[str, Any] = {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
    }
    tls = broker_tls(server.tls) if server.tls is not None else None
    if server.login is None:
        return {
            "redbeat_redis_url": server.url,
            "redbeat_redis_use_ssl": tls,
            "redbeat_redis_options": options,
        }
    primary = server.primary
    return {
        "redbeat_redis_url": "redis-sentinel://",
        "redbeat_redis_use_ssl": tls,
        "redbeat_redis_options": {
            "socket_timeout": timeout_seconds,
            "sentinels": primary.sentinels,
            "service_name": server.login.service_name,
            "username": primary.username,
            "password": primary.password,
            "db": primary.database,
            "sentinel_kwargs": {
                **options,
                "username": server.login.username,
                "password": server.login.password,
                **({"ssl": True, **tls} if tls else {}),
            },
        },
    }
