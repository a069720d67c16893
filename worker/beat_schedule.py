"""The schedule as one table: entry, period, task, queue."""

from datetime import timedelta
from typing import Any

from shared.settings import Settings

#: ``(entry, task, period, queue)``; the reason stands beside each row.
ENTRIES: tuple[tuple[str, str, timedelta, str], ...] = (
    # Results are a convenience, not the truth: they go after CELERY_RESULT_EXPIRES_SECONDS.
    ("result-cleanup", "celery.backend_cleanup", timedelta(hours=1), "ops_trace"),
)

#: A beat that dies frees the schedule after this long.
LOCK_SECONDS = 30


def beat_settings(settings: Settings) -> dict[str, Any]:
    """Celery settings of RedBeat, whose lock lets one beat fire and another take over."""
    return {
        "beat_scheduler": "redbeat.RedBeatScheduler",
        "beat_max_loop_interval": 5,
        "redbeat_redis_url": settings.redis_url,
        "redbeat_key_prefix": "rag-worker:beat:",
        "redbeat_lock_timeout": LOCK_SECONDS,
        "beat_schedule": {
            name: {
                "task": task,
                "schedule": period,
                # Missed runs are not owed: the next one does the same work.
                "options": {"queue": queue, "expires": period.total_seconds()},
            }
            for name, task, period, queue in ENTRIES
        },
    }
