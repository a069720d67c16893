"""A watchdog ends tasks that never end, in real workers of every pool, which then work on."""

import contextlib
from collections.abc import Iterator

import pytest
from flask import Flask
from redis import Redis

from tests.e2e.interruption_tasks import ENDED
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker

KINDS = {
    "prefork": ["compute", "sleep_shortly", "sleep_long"],
    "solo": ["compute", "sleep_shortly", "sleep_long"],
    # A thread in a C call hears of nothing until the call returns.
    "threads": ["compute", "sleep_shortly"],
    "gevent": ["compute", "sleep_shortly", "sleep_long", "sleep_in_the_database"],
}


@pytest.fixture
def redis(redis_url: str) -> Iterator["Redis"]:
    with contextlib.closing(Redis.from_url(redis_url, decode_responses=True)) as client:
        yield client


@pytest.mark.parametrize(
    "pool",
    [pytest.param(pool, marks=[] if pool == "gevent" else pytest.mark.long) for pool in KINDS],
)
def test_endless_tasks_are_ended_and_the_worker_goes_on(
    pool: str, app: Flask, redis: "Redis", start_worker: StartWorker, pytestconfig: pytest.Config
) -> None:
    worker = start_worker(
        pool, 1, "-I", "tests.e2e.interruption_tasks", PYTHONPATH=str(pytestconfig.rootpath)
    )
    celery = app.extensions["celery"]
    for kind in KINDS[pool]:
        celery.send_task("tests.never_ends", args=[kind], queue="dataset")
        celery.send_task("tests.ends", queue="dataset")

    eventually(lambda: int(redis.llen(ENDED)) == 2 * len(KINDS[pool]))  # type: ignore[arg-type]
    endings, processes = zip(
        *(line.rsplit(" in ", 1) for line in redis.lrange(ENDED, 0, -1)),  # type: ignore[union-attr]
        strict=True,
    )
    assert list(endings[::2]) == [f"{kind}: after 0.5 s" for kind in KINDS[pool]]
    assert set(endings[1::2]) == {"42"}
    assert len(set(processes)) == 1, "a child was replaced"
    assert worker.terminate() == 0
