"""Real workers: each message runs once, whoever wrote it and whatever is lost on the way."""

import contextlib
import os
import signal
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import psutil
import pytest
from flask import Flask
from redis import Redis
from sqlalchemy import text
from sqlalchemy.orm import Session

import tests.fixtures.probe_tasks  # noqa: F401 - registers the tasks
from shared.models import db
from tests.fixtures.outbox_rows import Outbox
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker, WorkerProcess
from worker.cli.stack.children import free_port

Start = Callable[..., WorkerProcess]
#: Nobody waits for so long: what arrives was announced.
POLL = {"OUTBOX_POLL_SECONDS": "3600"}


@pytest.fixture
def redis(redis_url: str) -> Iterator["Redis"]:
    with contextlib.closing(Redis.from_url(redis_url, decode_responses=True)) as client:
        yield client


@pytest.fixture
def start(start_worker: StartWorker, pytestconfig: pytest.Config) -> Start:
    """Starts a worker that knows the probe tasks."""

    def start_with_probes(pool: str, concurrency: int = 2, **variables: str) -> WorkerProcess:
        return start_worker(
            pool, concurrency, "-I", "tests.fixtures.probe_tasks",
            PYTHONPATH=str(pytestconfig.rootpath), **variables,
        )  # fmt: skip

    return start_with_probes


def ran(redis: "Redis") -> list[str]:
    found: Any = redis.lrange("probe:filled", 0, -1)
    return list(found)


def write_without_celery(rows: Outbox, messages: int = 1) -> None:
    """As a producer does that has no Celery: rows, and a notification at the commit."""
    rows.fill(uuid4(), messages)
    rows.change("SELECT pg_notify('rag_worker_outbox', '')")


def all_done(rows: Outbox, redis: "Redis", runs: int) -> None:
    eventually(lambda: rows.count() == 0, 60)
    eventually(lambda: not redis.exists("unacked"), 20)
    assert len(ran(redis)) == runs


def listeners(rows: Outbox) -> set[int]:
    with rows.engine.connect() as connection:
        query = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query = :q"
        return set(connection.scalars(text(query), {"q": "LISTEN rag_worker_outbox"}))


def children_of(worker: WorkerProcess) -> set[int]:
    return {child.pid for child in psutil.Process(worker.pid).children()}


@pytest.mark.parametrize("pool", ["prefork", "gevent", "solo"])
def test_every_pool_takes_messages_that_were_written_without_celery(
    pool: str, start: Start, rows: Outbox, redis: "Redis"
) -> None:
    worker = start(pool, **POLL)
    eventually(lambda: len(listeners(rows)) == 1, 20)
    write_without_celery(rows, 5)
    all_done(rows, redis, 5)
    write_without_celery(rows, 100)
    all_done(rows, redis, 105)
    assert worker.terminate() == 0
    assert "Traceback" not in worker.output()


def test_two_workers_run_each_message_once(start: Start, rows: Outbox, redis: "Redis") -> None:
    start("prefork")
    start("threads")
    for _ in range(3):
        write_without_celery(rows, 100)
    all_done(rows, redis, 300)


def test_children_and_connections_come_and_go_and_the_relay_hears_on(
    start: Start, rows: Outbox, redis: "Redis", session: Session
) -> None:
    worker = start("prefork", **POLL)
    eventually(lambda: len(listeners(rows)) == 1, 20)
    heard_by = listeners(rows)
    old = children_of(worker)
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not old & children_of(worker), 30)
    write_without_celery(rows, 10)
    all_done(rows, redis, 10)
    assert listeners(rows) == heard_by, "the same connection, never closed by a child"

    rows.change(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    db.engine.dispose()
    eventually(lambda: len(listeners(rows) - heard_by) == 1, 30)
    write_without_celery(rows, 5)
    all_done(rows, redis, 15)


def test_a_flushed_broker_gets_everything_again_from_the_relay_alone(
    start: Start, rows: Outbox, redis: "Redis", app: Flask
) -> None:
    celery = app.extensions["celery"]
    start("prefork", 1)
    celery.control.cancel_consumer("dataset", reply=True, timeout=5)
    rows.fill(uuid4(), 40)
    eventually(lambda: rows.count("published_at IS NULL") == 0, 20)
    redis.flushall()

    eventually(lambda: len(rows.in_broker()) == 40, 30)
    celery.control.add_consumer("dataset", reply=True, timeout=5)
    all_done(rows, redis, 40)


def test_a_worker_that_starts_sweeps_at_once_and_serves_its_metrics(
    start: Start, rows: Outbox, redis: "Redis"
) -> None:
    rows.fill(uuid4(), 3)
    rows.change(
        "UPDATE outbox SET published_at = now(), lease_owner = 'dead/1', "
        "lease_expires_at = now() - interval '1 s'"
    )
    port = free_port()
    start("prefork", METRICS_PORT=str(port), SWEEP_SECONDS="3600")
    all_done(rows, redis, 3)

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=300) as answer:
        lines = answer.read().decode().splitlines()
    assert 'rag_worker_relay_published_total{queue="dataset"} 3.0' in lines
    assert 'rag_worker_dead_letters{queue="dataset"} 0.0' in lines
