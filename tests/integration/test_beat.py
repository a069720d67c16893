"""The schedule: entries that exist, a beat that keeps it in Redis, and the clean-up it sends."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from flask import Flask
from redbeat import RedBeatSchedulerEntry
from redis import Redis
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from shared.contract import CLEAN_RESULTS, QUEUES, SCHEDULED, SWEEP
from shared.models import ScheduledRun
from shared.settings import load_settings
from shared.settings.schedule import ScheduleSettings
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker, WorkerProcess
from worker.beat_schedule import ENTRIES, beat_settings, entries
from worker.cli.stack.children import spawn

PREFIX = "rag-worker:beat:"
ENTRY = PREFIX + "celery.backend_cleanup"


@pytest.fixture
def redis(app: Flask) -> Redis:
    client: Redis = app.extensions["redis"]
    return client


StartBeat = Callable[..., WorkerProcess]


@pytest.fixture
def start_beat(environment: dict[str, str], tmp_path: Path) -> Iterator[StartBeat]:
    started: list[WorkerProcess] = []

    def start(**variables: str) -> WorkerProcess:
        log = tmp_path / f"beat-{len(started)}.log"
        process = spawn(
            [
                *(sys.executable, "-m", "celery", "-A", "worker.celery_app", "beat"),
                *("-l", "INFO", "--max-interval", "1"),
            ],
            log=log,
            death_signal=signal.SIGKILL,
            env={**os.environ, **environment, **variables},
            cwd=tmp_path,
        )
        started.append(WorkerProcess("beat", process, log))
        return started[-1]

    yield start
    for one in started:
        one.kill()


def test_every_entry_names_a_registered_task_a_served_queue_and_a_switch(app: Flask) -> None:
    celery, settings = app.extensions["celery"], app.extensions["settings"]
    celery.loader.import_default_modules()
    celery.finalize()

    assert [one.name for one in ENTRIES if one.task.name not in celery.tasks] == []
    assert [one.name for one in ENTRIES if one.options["queue"] not in QUEUES] == []
    assert [one.name for one in ENTRIES if not 0 < one.options["expires"] <= 86400] == []
    assert len({one.name for one in ENTRIES}) == len(ENTRIES)
    # Each runs alone: its task has nothing but that to do.
    assert {one.task.name for one in ENTRIES} == SCHEDULED
    schedule = beat_settings(settings)["beat_schedule"]
    for one in entries(settings):
        wanted = {"task": one.task.name, "schedule": one.period, "options": one.options}
        assert schedule[one.name] == wanted


def test_every_switch_takes_its_entries_out(environment: dict[str, str]) -> None:
    for switch in {one.switch for one in ENTRIES}:
        on = replace(load_settings(()), schedule=ScheduleSettings(**{switch: True}))
        off = replace(load_settings(()), schedule=ScheduleSettings(**{switch: False}))
        named = {one.name for one in ENTRIES if one.switch == switch}
        assert named <= beat_settings(on)["beat_schedule"].keys()
        assert not named & beat_settings(off)["beat_schedule"].keys()


def test_beat_keeps_its_schedule_in_redis_also_when_redis_was_emptied(
    app: Flask, start_beat: StartBeat, redis: Redis
) -> None:
    beat = start_beat()

    def scheduled() -> bool:
        assert beat.process.poll() is None, beat.output()
        return bool(redis.exists(ENTRY) and redis.exists(PREFIX + ":lock"))

    eventually(scheduled, 40)
    ours = {PREFIX + one.name for one in entries(app.extensions["settings"])}
    assert set(redis.zrange(PREFIX + ":schedule", 0, -1)) == ours, "our entries and no other"
    assert 0 < redis.ttl(PREFIX + ":lock") <= 15

    redis.flushall()

    eventually(scheduled, 40)
    assert "beat lost its lock" in beat.output()
    make_due(app)
    sent = partial(redis.lrange, "ops_trace", 0, -1)
    eventually(lambda: any(CLEAN_RESULTS.name in message for message in sent()), 20)
    assert beat.terminate() == 0
    assert not redis.exists(PREFIX + ":lock"), "the next beat need not wait"


def sent_of(redis: Redis, task: str, queue: str = "ops_trace") -> int:
    return sum(task in message for message in redis.lrange(queue, 0, -1))


def test_of_two_beats_one_fires_and_the_other_takes_over_when_it_is_killed(
    app: Flask, start_beat: StartBeat, redis: Redis
) -> None:
    short = {"BEAT_LOCK_SECONDS": "10", "SWEEP_SECONDS": "2", "ENABLE_PROBE_TASK": "false"}
    began = time.monotonic()
    beats = [start_beat(**short) for _ in range(2)]

    def leaders() -> list[WorkerProcess]:
        return [one for one in beats if "Acquired lock" in one.output()]

    eventually(lambda: len(leaders()) == 1 and sent_of(redis, SWEEP.name) >= 3, 60)
    (leader,) = leaders()
    (other,) = [one for one in beats if one is not leader]
    sweeps, seconds = sent_of(redis, SWEEP.name), time.monotonic() - began
    assert sweeps <= seconds / 2 + 1, "each period once, however many beats there are"
    assert "Sending due task" not in other.output()

    leader.kill()
    assert redis.pttl("rag-worker:beat::lock") <= 10_000, "nobody waits for longer"
    eventually(lambda: "Acquired lock" in other.output(), 20)

    before = sent_of(redis, SWEEP.name)
    eventually(lambda: sent_of(redis, SWEEP.name) >= before + 2, 20)
    assert other.terminate() == 0


def make_due(app: Flask) -> None:
    celery = app.extensions["celery"]
    celery.conf.update(beat_settings(app.extensions["settings"]))
    entry = RedBeatSchedulerEntry.from_key(ENTRY, app=celery)
    entry.reschedule(entry.last_run_at - timedelta(days=1))


def test_a_worker_does_all_that_the_schedule_sends(
    app: Flask, session: Session, start_worker: StartWorker
) -> None:
    session.execute(
        text(
            "INSERT INTO celery_taskmeta (id, task_id, status, date_done) VALUES "
            "(-1, 'old', 'SUCCESS', now() - interval '3 days'), (-2, 'new', 'SUCCESS', now())"
        )
    )
    session.commit()
    start_worker("prefork", 1)

    for entry in ENTRIES:
        app.extensions["celery"].send_task(entry.task.name, **entry.options)

    names = {one.task.name.rpartition(".")[2].removesuffix("_task") for one in ENTRIES} - {"probe"}

    def ended() -> set[str]:
        session.rollback()
        query = select(ScheduledRun.name).where(ScheduledRun.ended_at.is_not(None))
        return set(session.scalars(query))

    eventually(lambda: ended() >= names, 60)
    errors = session.execute(select(ScheduledRun.name, ScheduledRun.error)).all()
    assert [row for row in errors if row.error is not None] == []
    assert list(session.scalars(text("SELECT task_id FROM celery_taskmeta"))) == ["new"]
    assert session.scalar(text("SELECT count(*) FROM dead_letters")) == 0
