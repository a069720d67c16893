"""Old and new workers side by side."""

import pytest
from flask import Flask

from shared.contract import QUEUES
from shared.models import db
from tests.fixtures.messages import Messages
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker
from worker.delivery.sweeper import sweep_messages


@pytest.fixture
def messages(app: Flask) -> Messages:
    return Messages(app)


def test_a_task_that_an_old_worker_does_not_know_is_done_by_a_new_one(
    app: Flask, messages: Messages, start_worker: StartWorker
) -> None:
    old = start_worker("threads", 1)
    message = messages.write("probe.quiet", "upgrade")
    eventually(lambda: "Received unregistered task of type 'probe.quiet'" in old.output())
    row = messages.row(message)
    assert row is not None
    assert row.attempts == 0

    new = start_worker("threads", 1, "-I", "tests.fixtures.probe_tasks")
    assert old.terminate() == 0
    with app.extensions["celery"].connection_for_write() as connection:
        eventually(lambda: sweep_messages(db.engine, connection, QUEUES, 0).lost == 1)
    messages.await_gone(message)

    assert messages.runs("upgrade") == 1, new.output()
    assert messages.letters() == []
