"""The four ends of a task, in a real worker."""

import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from celery.exceptions import Reject
from celery.result import AsyncResult
from flask import Flask
from redis import Redis
from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.errors import LeaseLost, ServiceUnavailable
from tests.fixtures import probe_tasks
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker

Send = Callable[..., AsyncResult[Any]]
SECONDS = 300


@pytest.fixture
def send(app: Flask, start_worker: StartWorker) -> Send:
    """Sends probe tasks to a worker that runs them."""
    start_worker("threads", 4, "-I", "tests.fixtures.probe_tasks")

    def send_probe(name: str, *args: Any) -> AsyncResult[Any]:
        result: AsyncResult[Any] = app.extensions["celery"].send_task(f"probe.{name}", args=args)
        return result

    return send_probe


def runs(app: Flask, name: str) -> int:
    redis: Redis = app.extensions["redis"]
    return int(redis.llen(f"probe:{name}"))


def stored(session: Session, result: AsyncResult[Any]) -> Any:
    session.rollback()
    query = text("SELECT status, traceback FROM celery_taskmeta WHERE task_id = :id")
    return session.execute(query, {"id": result.id}).one_or_none()


def await_stored(session: Session, result: AsyncResult[Any], status: str) -> Any:
    eventually(lambda: (stored(session, result) or ("",))[0] == status, SECONDS)
    return stored(session, result)


def test_each_family_of_errors_ends_in_its_own_way_and_every_run_has_a_clean_session(
    app: Flask, session: Session, send: Send
) -> None:
    redis: Redis = app.extensions["redis"]
    started = time.monotonic()
    asked = send("transient", "asked", 1.5)
    jittered = send("transient", "jittered")
    hopeless = send("hopeless", "hopeless")
    permanent = send("permanent", "permanent")
    superseded = send("superseded", "superseded")
    database_lost = send("database_lost", "database_lost")
    defect = send("defect", "defect")
    quiet = send("quiet", "quiet")

    assert send("done", "value").get(timeout=SECONDS) == "value"

    assert jittered.get(timeout=SECONDS) == "attempt 1"
    assert database_lost.get(timeout=SECONDS) == "again"
    assert asked.get(timeout=SECONDS) == "attempt 1"
    assert time.monotonic() - started >= 1.5, "the peer asked for this much time"

    assert "this file is broken" in await_stored(session, permanent, "FAILURE").traceback
    assert runs(app, "permanent") == 1
    assert "ZeroDivisionError: a defect" in await_stored(session, defect, "FAILURE").traceback
    assert "in defect" in stored(session, defect).traceback
    assert runs(app, "defect") == 1
    await_stored(session, hopeless, "FAILURE")
    assert runs(app, "hopeless") == 3, "once, and two retries"

    eventually(lambda: runs(app, "superseded") == 1 and runs(app, "quiet") == 1, SECONDS)
    # Acknowledged: nothing is in a queue, nothing waits to be handed out again.
    eventually(lambda: not redis.exists("dataset", "unacked"), SECONDS)
    assert runs(app, "superseded") == 1
    assert stored(session, superseded) is None
    assert stored(session, quiet) is None

    # Every run has a clean session, also after a failed transaction.
    for _ in range(4):
        await_stored(session, send("broken_transaction"), "FAILURE")

    states = [send("session_state").get(timeout=SECONDS) for _ in range(4)]

    assert [state["clean"] for state in states] == [True] * 4
    assert [state["one"] for state in states] == [1] * 4
    assert [state["checked_out"] for state in states] == [1] * 4, "its own connection alone"


def test_a_retry_that_cannot_be_published_keeps_the_message(app: Flask) -> None:
    celery = app.extensions["celery"]
    task = celery.tasks["probe.transient"]
    celery.conf.task_create_missing_queues = False
    task.push_request(id=str(uuid4()), called_directly=False, delivery_info={"routing_key": "nope"})
    try:
        with pytest.raises(Reject) as caught:
            task("unpublishable")
    finally:
        task.pop_request()

    assert caught.value.requeue is True


def test_called_directly_a_task_returns_its_value_or_raises_its_error(app: Flask) -> None:
    assert probe_tasks.done("value") == "value"
    with pytest.raises(LeaseLost):
        probe_tasks.superseded("direct")
    with pytest.raises(ServiceUnavailable):
        probe_tasks.transient("direct, transient")
