"""A hundred greenlets share one process: none waits for another's database call."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from redis import Redis

from tests.e2e.gevent_tasks import DONE, SPANS
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker, WorkerProcess

TASKS_MODULE = "tests.e2e.gevent_tasks"


@pytest.fixture
def redis(redis_url: str) -> Iterator["Redis"]:
    with contextlib.closing(Redis.from_url(redis_url, decode_responses=True)) as client:
        yield client


@pytest.fixture
def worker(start_worker: StartWorker, pytestconfig: pytest.Config) -> WorkerProcess:
    return start_worker(
        "gevent", 100, "-I", TASKS_MODULE, "--prefetch-multiplier", "1",
        PYTHONPATH=str(pytestconfig.rootpath),
    )  # fmt: skip


def send(app: Flask, name: str, count: int, *arguments: Any) -> None:
    celery = app.extensions["celery"]
    with celery.producer_or_acquire() as producer:
        for _ in range(count):
            celery.send_task(name, args=arguments, queue="dataset", producer=producer)


def unacknowledged(redis: "Redis") -> int:
    return int(redis.hlen("unacked")) + int(redis.llen("dataset"))  # type: ignore[arg-type]


def test_a_hundred_sleep_in_the_database_at_once(
    app: Flask, redis: "Redis", worker: WorkerProcess
) -> None:
    # The first hundred open the connections that the second find in the pool.
    for round_number in (1, 2):
        redis.delete(SPANS)
        send(app, "tests.sleep_in_the_database", 100, 0.2)
        eventually(lambda: redis.llen(SPANS) == 100, 60)
        spans = [tuple(map(float, span.split())) for span in redis.lrange(SPANS, 0, -1)]
        seconds = max(end for _, end in spans) - min(start for start, _ in spans)
        assert seconds < 2, f"round {round_number}"

    eventually(lambda: unacknowledged(redis) == 0, 20)
    assert "Couldn't ack" not in worker.output()
    assert "MaxConnectionsError" not in worker.output()


def test_no_late_acknowledgement_is_left_behind(
    app: Flask, redis: "Redis", worker: WorkerProcess
) -> None:
    send(app, "tests.count", 400)

    eventually(lambda: redis.get(DONE) == "400", 60)
    eventually(lambda: unacknowledged(redis) == 0, 20)
    assert "Couldn't ack" not in worker.output()


def test_the_brokers_connections_follow_the_concurrency(
    app: Flask, start_worker: StartWorker
) -> None:
    worker = start_worker("gevent", 300)
    conf = app.extensions["celery"].control.inspect([worker.name]).conf()[worker.name]
    assert conf["broker_transport_options"]["max_connections"] >= 600
    assert conf["broker_pool_limit"] >= 300
