"""A worker that is told to stop finishes or hands back what it has; nothing waits for a timeout."""

import os
import signal
import time
from collections.abc import Callable
from uuid import UUID

import psutil
import pytest
from flask import Flask
from redis import Redis
from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.models import DocumentStatus, OutboxMessage, WorkerNode
from shared.queueing import outbox
from tests.e2e.delivery_tasks import BEGUN, ENDED
from tests.fixtures.application import Reader, Submit
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker

LOADED = ("-I", "tests.e2e.delivery_tasks")
GRACE = {"DELIVERY_SHUTDOWN_GRACE_SECONDS": "0.5"}
SECONDS = 300
#: Far below the broker's visibility timeout, and a lease (3600 s) where that is to be outrun.
SOON_SECONDS = 300
LARGE = b"The lighthouse lamp turns once in twelve seconds, whatever the weather. " * 8000
Send = Callable[[str, int], UUID]


@pytest.fixture
def redis(app: Flask) -> Redis:
    client: Redis = app.extensions["redis"]
    return client


@pytest.fixture
def send(app: Flask, session: Session) -> Send:
    def write(name: str, steps: int) -> UUID:
        celery = app.extensions["celery"]
        message_id = outbox.write(session, "tests.steps", [name, steps], celery=celery)
        session.commit()
        return message_id

    return write


def messages(session: Session) -> list[OutboxMessage]:
    session.rollback()
    return list(session.scalars(select(OutboxMessage)))


@pytest.mark.parametrize(
    "pool",
    [
        "prefork",
        "gevent",
        pytest.param("threads", marks=pytest.mark.long),
        pytest.param("solo", marks=pytest.mark.long),
    ],
)
def test_what_is_running_after_the_grace_is_handed_back_at_once(
    pool: str, redis: Redis, session: Session, send: Send, start_worker: StartWorker
) -> None:
    worker = start_worker(pool, 1, *LOADED, **GRACE)
    send("long", 10_000)
    send("not begun", 1)
    eventually(lambda: redis.llen(BEGUN) == 1, SECONDS)

    assert worker.terminate(SOON_SECONDS) == 0

    left = messages(session)
    assert {one.args[0] for one in left} == {"long", "not begun"}
    assert [(one.lease_expires_at, one.attempts, one.deaths) for one in left] == [(None, 0, 0)] * 2

    start_worker("threads", 2, *LOADED)
    eventually(lambda: redis.lrange(ENDED, 0, -1) == ["not begun"], SOON_SECONDS)
    eventually(lambda: redis.lrange(BEGUN, 0, -1).count("long") == 2, SOON_SECONDS)


def test_what_ends_within_the_grace_is_finished(
    redis: Redis, session: Session, send: Send, start_worker: StartWorker
) -> None:
    worker = start_worker("prefork", 1, *LOADED, DELIVERY_SHUTDOWN_GRACE_SECONDS="300")
    send("short", 40)
    eventually(lambda: redis.llen(BEGUN) == 1, SECONDS)

    assert worker.terminate(SOON_SECONDS) == 0

    assert redis.lrange(ENDED, 0, -1) == ["short"]
    assert messages(session) == []


def test_a_second_signal_loses_nothing_either(
    redis: Redis, session: Session, send: Send, start_worker: StartWorker
) -> None:
    lease = {"DELIVERY_LEASE_SECONDS": "3", "SWEEP_SECONDS": "1"}
    worker = start_worker("prefork", 1, *LOADED, DELIVERY_SHUTDOWN_GRACE_SECONDS="300", **lease)
    send("long", 10_000)
    eventually(lambda: redis.llen(BEGUN) == 1, SECONDS)
    worker.process.send_signal(signal.SIGTERM)
    eventually(lambda: "Warm shutdown" in worker.output(), SECONDS)
    worker.process.send_signal(signal.SIGTERM)
    worker.process.send_signal(signal.SIGQUIT)
    worker.process.wait(SOON_SECONDS)

    (left,) = messages(session)
    assert left.args[0] == "long"
    start_worker("threads", 2, *LOADED, **lease)
    eventually(lambda: redis.lrange(BEGUN, 0, -1).count("long") == 2, SOON_SECONDS)


def test_a_child_that_says_more_than_anybody_waits_for_holds_up_no_shutdown(
    app: Flask, redis: Redis, session: Session, start_worker: StartWorker
) -> None:
    worker = start_worker("prefork", 1, *LOADED, **GRACE)

    def is_reported() -> bool:
        session.rollback()
        return session.get(WorkerNode, worker.name) is not None

    eventually(is_reported, SECONDS)
    (child,) = psutil.Process(worker.pid).children()
    child.suspend()
    app.extensions["celery"].send_task("tests.fails_at_length", queue="dataset")
    # Written to the child, who has not accepted it: Celery forgets it when it stops.
    eventually(lambda: "Task tests.fails_at_length" in worker.output(), SECONDS)
    worker.process.send_signal(signal.SIGTERM)
    eventually(lambda: not is_reported(), SECONDS)
    child.resume()

    assert worker.process.wait(SOON_SECONDS) == 0
    assert redis.llen(BEGUN) == 1


def test_a_document_half_way_goes_back_to_waiting_and_is_completed_by_the_next(
    submit: Submit, reader: Reader, session: Session, start_worker: StartWorker
) -> None:
    worker = start_worker("prefork", 1, INDEXING_BATCH_SEGMENTS="1", **GRACE)
    (one,) = submit({"large.txt": LARGE}, announce=True)
    eventually(lambda: reader.document(one.document_id).completed_segments > 0, SECONDS)

    assert worker.terminate(SOON_SECONDS) == 0

    document = reader.document(one.document_id)
    assert (document.indexing_status, document.attempts) == (DocumentStatus.WAITING, 0)
    assert document.lease_expires_at is None
    start_worker("prefork", 1)
    (document,) = reader.await_end(one.document_id, seconds=SOON_SECONDS)
    assert document.indexing_status == DocumentStatus.COMPLETED


def test_a_killed_child_costs_seconds_not_a_lease(
    submit: Submit, reader: Reader, start_worker: StartWorker
) -> None:
    worker = start_worker("prefork", 1, INDEXING_BATCH_SEGMENTS="1", DELIVERY_LEASE_SECONDS="3600")
    (one,) = submit({"large.txt": LARGE}, announce=True)
    eventually(lambda: reader.document(one.document_id).completed_segments > 0, SECONDS)
    owner = reader.document(one.document_id).lease_owner or ""
    began = time.monotonic()

    os.kill(int(owner.rpartition("/")[2]), signal.SIGKILL)

    def has_a_new_owner() -> bool:
        document = reader.document(one.document_id)
        return document.lease_owner not in {owner, None} and document.deaths == 1

    eventually(has_a_new_owner, SOON_SECONDS)
    assert time.monotonic() - began < SOON_SECONDS
    assert worker.process.poll() is None
