"""The schedule as one table: entry, task, period, queue, switch.

What is sent and not begun within its period expires: the next run does the same work.
Whatever is sent twice, or takes longer than its period, runs once at a time
(``worker.delivery.alone``).
"""

import logging
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from celery.schedules import crontab
from redbeat import RedBeatScheduler
from redis.exceptions import LockError, RedisError

from shared.contract import (
    CLEAN_EMBEDDING_CACHE,
    CLEAN_MAIL,
    CLEAN_ORPHANED_FILES,
    CLEAN_OUTBOX,
    CLEAN_RESULTS,
    CLEAN_TRACES,
    CLEAN_UNUSED_DATASETS,
    DEAD_LETTER_ALERT,
    INDEX_VECTORS,
    MAIL_CLEAN_DOCUMENT_NOTIFY,
    PROBE,
    QUEUE_MONITOR,
    QUEUES,
    RECONCILE_VECTORS,
    SWEEP,
    TaskContract,
)
from shared.queueing.celery_settings import broker_tls
from shared.queueing.publishing import BROKER_ERRORS
from shared.settings import Settings
from worker.delivery.presence import backlog_of

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the schedule.

    Attributes:
        name: in Redis, and in ``scheduled_runs``' reports.
        task: what is sent.
        period: how often; or when, in UTC.
        switch: the setting that switches it on.
        queue: where it is sent; the task's own, when unset.
        expires: after this it need not begin any more; the period, when unset.
    """

    name: str
    task: TaskContract
    period: timedelta | crontab
    switch: str
    queue: str = ""
    expires: timedelta | None = None

    @property
    def options(self) -> dict[str, Any]:
        """How it is published."""
        expires = self.expires or (self.period if isinstance(self.period, timedelta) else _DAY)
        return {"queue": self.queue or self.task.queue, "expires": expires.total_seconds()}


def _daily(hour: int, minute: int = 0) -> crontab:
    return crontab(hour=str(hour), minute=str(minute))


#: The reason stands beside each row.
ENTRIES: tuple[Entry, ...] = (
    # What got stuck goes out again: see ``worker.delivery.sweeper``; SWEEP_SECONDS says how often.
    Entry("sweep", SWEEP, timedelta(seconds=30), "enable_sweep_task"),
    # Results are a convenience, not the truth: they go after CELERY_RESULT_EXPIRES_SECONDS.
    # Under the name of Celery's own entry, which would delete all of them in one statement.
    Entry("celery.backend_cleanup", CLEAN_RESULTS, timedelta(hours=1), "enable_clean_results_task"),
    # Old traces go after TRACE_DELIVERED_RETENTION_DAYS and TRACE_FAILED_RETENTION_DAYS.
    Entry("clean_traces", CLEAN_TRACES, timedelta(hours=1), "enable_clean_traces_task"),
    # A worker on an idle queue proves that it consumes: see ``worker.delivery.nodes``.
    *(
        Entry(f"probe.{queue}", PROBE, timedelta(seconds=30), "enable_probe_task", queue)
        for queue in QUEUES
    ),
    # The oldest cause of "stuck in queuing" is a queue that nobody serves.
    Entry("queue_monitor", QUEUE_MONITOR, timedelta(minutes=1), "enable_queue_monitor_task"),
    # Somebody has to look at what was given up.
    Entry(
        "dead_letter_alert",
        DEAD_LETTER_ALERT,
        timedelta(minutes=10),
        "enable_dead_letter_alert_task",
    ),
    # A dataset that has become large is slow to search until it has one.
    Entry("index_vectors", INDEX_VECTORS, timedelta(hours=1), "enable_index_vectors_task"),
    # The rest is for the small hours.
    Entry("clean_outbox", CLEAN_OUTBOX, _daily(1), "enable_clean_outbox_task"),
    Entry("clean_mail", CLEAN_MAIL, _daily(1, 30), "enable_clean_mail_task"),
    Entry(
        "clean_embedding_cache",
        CLEAN_EMBEDDING_CACHE,
        _daily(2),
        "enable_clean_embedding_cache_task",
    ),
    Entry(
        "clean_unused_datasets",
        CLEAN_UNUSED_DATASETS,
        _daily(3),
        "enable_clean_unused_datasets_task",
    ),
    # What a producer stored and never submitted; what a restored backup left.
    Entry(
        "clean_orphaned_files", CLEAN_ORPHANED_FILES, _daily(4), "enable_clean_orphaned_files_task"
    ),
    Entry("reconcile_vectors", RECONCILE_VECTORS, _daily(5), "enable_reconcile_vectors_task"),
    # Monday, when people read it.
    Entry(
        "mail_clean_document_notify",
        MAIL_CLEAN_DOCUMENT_NOTIFY,
        crontab(hour="10", minute="0", day_of_week="1"),
        "enable_mail_clean_document_notify_task",
    ),
)

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
    lock_seconds = settings.schedule.beat_lock_seconds
    return {
        "beat_scheduler": f"{Scheduler.__module__}:{Scheduler.__name__}",
        # Beat renews its lock once a loop, and looks as often for one that is free.
        "beat_max_loop_interval": min(5.0, lock_seconds / 3),
        **_redis(settings),
        "redbeat_key_prefix": "rag-worker:beat:",
        "redbeat_lock_timeout": lock_seconds,
        "beat_schedule": {
            entry.name: {
                "task": entry.task.name,
                "schedule": entry.period,
                "options": entry.options,
            }
            for entry in entries(settings)
        },
    }


def entries(settings: Settings) -> list[Entry]:
    """Those that are switched on, as often as the settings say."""
    periods = {
        SWEEP: settings.delivery.sweep_seconds,
        PROBE: settings.presence.probe_seconds,
        QUEUE_MONITOR: settings.schedule.queue_monitor_seconds,
    }
    return [
        replace(one, period=timedelta(seconds=periods[one.task])) if one.task in periods else one
        for one in ENTRIES
        if getattr(settings.schedule, one.switch)
    ]


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
