"""A hundred greenlets share one process: none waits for another's database call."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from redis import Redis
from sqlalchemy import text
from sqlalchemy.orm import Session

from tests.e2e.gevent_tasks import DONE, GATE
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker, WorkerProcess

TASKS_MODULE = "tests.e2e.gevent_tasks"
CONNECTIONS = 60
_WAITING = text("""
    SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database
    WHERE datname = current_database() AND locktype = 'advisory' AND objid = :gate AND NOT granted
""")


@pytest.fixture
def redis(redis_url: str) -> Iterator["Redis"]:
    with contextlib.closing(Redis.from_url(redis_url, decode_responses=True)) as client:
        yield client


@pytest.fixture
def worker(start_worker: StartWorker, pytestconfig: pytest.Config) -> WorkerProcess:
    return start_worker(
        "gevent", 100, "-I", TASKS_MODULE, "--prefetch-multiplier", "1",
        PYTHONPATH=str(pytestconfig.rootpath),
        SQLALCHEMY_POOL_SIZE=str(CONNECTIONS), SQLALCHEMY_POOL_TIMEOUT_SECONDS="300",
    )  # fmt: skip


def send(app: Flask, name: str, count: int, *arguments: Any) -> None:
    celery = app.extensions["celery"]
    with celery.producer_or_acquire() as producer:
        for _ in range(count):
            celery.send_task(name, args=arguments, queue="dataset", producer=producer)


def unacknowledged(redis: "Redis") -> int:
    return int(redis.hlen("unacked")) + int(redis.llen("dataset"))  # type: ignore[arg-type]


def test_as_many_wait_in_the_database_at_once_as_there_are_connections(
    app: Flask, session: Session, redis: "Redis", worker: WorkerProcess
) -> None:
    def waiting() -> int:
        return int(session.scalar(_WAITING, {"gate": GATE}) or 0)

    # The first open the connections that the second find in the pool.
    for _ in range(2):
        session.execute(text("SELECT pg_advisory_lock(:gate)"), {"gate": GATE})
        send(app, "tests.wait_in_the_database", 100)
        eventually(lambda: waiting() == CONNECTIONS)
        session.execute(text("SELECT pg_advisory_unlock(:gate)"), {"gate": GATE})
        eventually(lambda: unacknowledged(redis) == 0)

    assert "Couldn't ack" not in worker.output()
    assert "MaxConnectionsError" not in worker.output()


def test_no_late_acknowledgement_is_left_behind(
    app: Flask, redis: "Redis", worker: WorkerProcess
) -> None:
    send(app, "tests.count", 400)

    eventually(lambda: redis.get(DONE) == "400")
    eventually(lambda: unacknowledged(redis) == 0)
    assert "Couldn't ack" not in worker.output()


def test_the_brokers_connections_follow_the_concurrency(
    app: Flask, start_worker: StartWorker
) -> None:
    worker = start_worker("gevent", 300)
    conf = app.extensions["celery"].control.inspect([worker.name]).conf()[worker.name]
    assert conf["broker_transport_options"]["max_connections"] >= 600
    assert conf["broker_pool_limit"] >= 300
