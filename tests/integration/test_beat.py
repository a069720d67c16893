"""The schedule: entries that exist, a beat that keeps it in Redis, and the clean-up it sends."""

import os
import signal
import sys
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from flask import Flask
from redbeat import RedBeatSchedulerEntry
from redis import Redis
from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.contract import QUEUES
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker, WorkerProcess
from worker.beat_schedule import ENTRIES, LOCK_SECONDS, beat_settings
from worker.cli.stack.children import spawn

PREFIX = "rag-worker:beat:"
ENTRY = PREFIX + "celery.backend_cleanup"


@pytest.fixture
def redis(app: Flask) -> Redis:
    client: Redis = app.extensions["redis"]
    return client


@pytest.fixture
def beat(app: Flask, environment: dict[str, str], tmp_path: Path) -> Iterator[WorkerProcess]:
    process = spawn(
        [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "worker.celery_app",
            "beat",
            "-l",
            "INFO",
            "--max-interval",
            "1",
        ],
        log=tmp_path / "beat.log",
        death_signal=signal.SIGKILL,
        env={**os.environ, **environment},
        cwd=tmp_path,
    )
    made = WorkerProcess("beat", process, tmp_path / "beat.log")
    yield made
    made.kill()


def test_every_entry_names_a_registered_task_and_a_served_queue(app: Flask) -> None:
    celery = app.extensions["celery"]
    celery.loader.import_default_modules()
    celery.finalize()

    assert [task for _, task, _, _ in ENTRIES if task not in celery.tasks] == []
    assert [queue for _, _, _, queue in ENTRIES if queue not in QUEUES] == []
    assert len({entry for entry, *_ in ENTRIES}) == len(ENTRIES)
    schedule = beat_settings(app.extensions["settings"])["beat_schedule"]
    for entry, task, period, queue in ENTRIES:
        options = {"queue": queue, "expires": period.total_seconds()}
        assert schedule[entry] == {"task": task, "schedule": period, "options": options}


def test_beat_keeps_its_schedule_in_redis_also_when_redis_was_emptied(
    app: Flask, beat: WorkerProcess, redis: Redis
) -> None:
    def scheduled() -> bool:
        assert beat.process.poll() is None, beat.output()
        return bool(redis.exists(ENTRY) and redis.exists(PREFIX + ":lock"))

    eventually(scheduled, 40)
    ours = {PREFIX + name for name, *_ in ENTRIES}
    assert set(redis.zrange(PREFIX + ":schedule", 0, -1)) == ours, "our entries and no other"
    assert 0 < redis.ttl(PREFIX + ":lock") <= LOCK_SECONDS

    redis.flushall()

    eventually(scheduled, 40)
    assert "beat lost its lock" in beat.output()
    make_due(app)
    sent = partial(redis.lrange, "ops_trace", 0, -1)
    eventually(lambda: any("celery.backend_cleanup" in message for message in sent()), 20)
    assert beat.terminate() == 0
    assert not redis.exists(PREFIX + ":lock"), "the next beat need not wait"


def make_due(app: Flask) -> None:
    celery = app.extensions["celery"]
    celery.conf.update(beat_settings(app.extensions["settings"]))
    entry = RedBeatSchedulerEntry.from_key(ENTRY, app=celery)
    entry.reschedule(entry.last_run_at - timedelta(days=1))


def test_the_cleanup_deletes_results_that_expired(
    app: Flask, session: Session, start_worker: StartWorker
) -> None:
    session.execute(
        text(
            "INSERT INTO celery_taskmeta (id, task_id, status, date_done) VALUES "
            "(-1, 'old', 'SUCCESS', now() - interval '3 days'), (-2, 'new', 'SUCCESS', now())"
        )
    )
    session.commit()
    start_worker("solo", 1)

    app.extensions["celery"].send_task("celery.backend_cleanup", queue="ops_trace")

    def left() -> list[str]:
        session.rollback()
        return list(session.scalars(text("SELECT task_id FROM celery_taskmeta")))

    eventually(lambda: left() == ["new"], 20)
