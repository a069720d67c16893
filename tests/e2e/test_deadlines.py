"""Every task has an end, in every pool, whatever it does."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from redis import Redis
from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.models import DeadLetter, OutboxMessage
from shared.queueing import outbox
from tests.e2e.delivery_tasks import BEGUN
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker

LOADED = ("-I", "tests.e2e.delivery_tasks")
SECONDS = 300
Send = Callable[[str], None]


@pytest.fixture
def send(app: Flask, session: Session) -> Send:
    def write(name: str) -> None:
        outbox.write(session, f"tests.{name}", celery=app.extensions["celery"])
        session.commit()

    return write


def letters(session: Session) -> dict[str, str]:
    session.rollback()
    return {
        one.task.removeprefix("tests."): one.reason for one in session.scalars(select(DeadLetter))
    }


def works(app: Flask) -> bool:
    result: Any = app.extensions["celery"].send_task("tests.alive")
    return bool(result.get(timeout=SECONDS) == 1)


@pytest.mark.parametrize("pool", ["prefork", "solo", "gevent", "threads"])
def test_a_task_past_its_deadline_is_ended_and_the_worker_goes_on(
    pool: str, app: Flask, session: Session, send: Send, start_worker: StartWorker
) -> None:
    start_worker(pool, 2, *LOADED)
    # A thread that sleeps in C cannot be woken: see the last test.
    names = ["computes"] if pool == "threads" else ["sleeps", "computes"]
    for name in names:
        send(name)

    eventually(lambda: set(letters(session)) == set(names), SECONDS)

    assert set(letters(session).values()) == {"ended after its deadline of 1 s"}
    assert works(app)


def test_a_task_that_beats_without_progress_is_tried_again_and_then_given_up(
    session: Session, send: Send, start_worker: StartWorker
) -> None:
    start_worker("solo", 1, *LOADED, DELIVERY_MAX_ATTEMPTS="1")
    send("stalls")

    eventually(lambda: "stalls" in letters(session), SECONDS)

    assert "no progress for 1 s" in letters(session)["stalls"]


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_what_nothing_can_stop_costs_its_process_and_is_recorded_first(
    pool: str, app: Flask, session: Session, send: Send, start_worker: StartWorker
) -> None:
    worker = start_worker(pool, 1, *LOADED, DELIVERY_UNSTOPPABLE_SECONDS="1")
    send("stuck")

    eventually(lambda: "stuck" in letters(session), SECONDS)

    assert letters(session)["stuck"] == "ended after its deadline of 1 s"
    assert works(app), "in a new child, or in a worker that started itself anew"
    assert worker.process.poll() is None, "in the same process id"
    redis: Redis = app.extensions["redis"]
    assert redis.llen(BEGUN) == 1, "it is not begun again"
    eventually(lambda: session.scalar(select(OutboxMessage.id)) is None, SECONDS)
