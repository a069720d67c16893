"""Each line of a running task says which task, whose, about what and of which trace."""

import json
from collections import defaultdict
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask import Flask
from sqlalchemy.orm import Session

from shared.queueing import outbox
from shared.queueing.trace_context import carrying
from tests.fixtures.logging_tasks import WAYS
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker, WorkerProcess

SECONDS = 300
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"
TASKS = ("-I", "tests.fixtures.logging_tasks")
Line = dict[str, Any]


def lines(worker: WorkerProcess) -> list[Line]:
    """Every line of the log; each has to be one of JSON."""
    return [json.loads(line) for line in worker.output().splitlines() if line.startswith("{")]


def said(worker: WorkerProcess, words: str) -> list[Line]:
    return [line for line in lines(worker) if words in line["message"]]


def write(app: Flask, session: Session, task: str, *args: Any, **options: Any) -> str:
    message_id = outbox.write(
        session, task, args, celery=app.extensions["celery"], **options
    )  # fmt: skip
    session.commit()
    return str(message_id)


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent", "solo"])
def test_every_line_of_a_task_says_whose_it_is(
    app: Flask, session: Session, start_worker: StartWorker, pool: str
) -> None:
    worker = start_worker(pool, 4, *TASKS, LOG_FORMAT="json")
    owners: dict[str, dict[str, str]] = {}
    for number in range(4):
        tenant_id, document_id = uuid4(), uuid4()
        with carrying(request_id=f"request-{number}"):
            message_id = outbox.write(
                session,
                "logging.talkative",
                [f"word-{number}"],
                {"document_id": str(document_id)},
                tenant_id=tenant_id,
            )
        owners[f"word-{number}"] = {
            "task": "logging.talkative",
            "task_id": str(message_id),
            "queue": "dataset",
            "tenant_id": str(tenant_id),
            "document_id": str(document_id),
            "trace_id": f"request-{number}",
        }
    session.commit()

    for word, owner in owners.items():
        eventually(lambda word=word: len(said(worker, word)) >= len(WAYS), SECONDS)
        for line in said(worker, word):
            assert owner.items() <= line.items(), line
        found = {line["message"].split(word)[1].split()[0] for line in said(worker, word)}
        assert found == set(WAYS)
    ids = [owner["task_id"] for owner in owners.values()]
    # Celery's own lines: they say the id in their text.
    eventually(lambda: sum("succeeded" in line["message"] for line in lines(worker)) == 4, SECONDS)
    for line in lines(worker):
        of = [one for one in ids if one in line["message"]]
        if of:
            assert line["task_id"] == of[0]
            assert line["tenant_id"] in {owner["tenant_id"] for owner in owners.values()}
    by_task: dict[str, set[str]] = defaultdict(set)
    for line in lines(worker):
        if "task_id" in line:
            by_task[line["task_id"]].add(line["trace_id"])
    assert {by_task[one].pop() for one in ids} == {f"request-{n}" for n in range(4)}


def test_a_trace_is_kept_through_retries_children_and_a_relay_that_comes_later(
    app: Flask, session: Session, start_worker: StartWorker
) -> None:
    with carrying(traceparent=TRACEPARENT, request_id="from-the-api"):
        # No Celery app: a worker's relay publishes it, whenever there is one.
        for task in ("transient", "parent", "permanent", "defect"):
            outbox.write(session, f"logging.{task}", [f"the-{task}"])
    session.commit()

    worker = start_worker("threads", 4, *TASKS, LOG_FORMAT="json")
    eventually(lambda: len(said(worker, "the-transient attempt")) == 2, SECONDS)
    for child in ("the-parent-outbox late", "the-parent-delay late", "the-defect: "):
        eventually(lambda child=child: said(worker, child), SECONDS)
    own = [line for line in lines(worker) if "task_id" in line]
    of_the_trace = [line for line in own if line["task"].startswith("logging.")]
    assert {line["trace_id"] for line in of_the_trace} == {TRACE_ID}
    assert {line["request_id"] for line in of_the_trace} == {"from-the-api"}
    attempts = said(worker, "the-transient attempt")
    assert len({line["task_id"] for line in attempts}) == 1


def test_the_console_has_the_ids_behind_the_message(
    app: Flask, session: Session, start_worker: StartWorker
) -> None:
    worker = start_worker("threads", 1, *TASKS)
    tenant_id = uuid4()
    task_id = write(app, session, "logging.talkative", "hello", tenant_id=tenant_id)

    eventually(lambda: "hello warning" in worker.output(), SECONDS)
    (line,) = [one for one in worker.output().splitlines() if "hello library" in one]
    assert line.endswith(
        f" INFO    somebody.elses.library: hello library [task=logging.talkative "
        f"task_id={task_id} queue=dataset tenant_id={tenant_id} "
        f"trace_id={UUID(task_id).hex}]"
    )
