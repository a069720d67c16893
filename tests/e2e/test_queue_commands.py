"""Queues, workers, tasks and stuck documents by the commands a user types."""

import json
from typing import Any
from uuid import uuid4

from flask import Flask
from sqlalchemy.orm import Session

from shared.contract import QUEUES
from shared.models import DocumentStatus, db
from shared.submitting.mail import MailRules, send_mail
from tests.fixtures.application import Reader, Submit
from tests.fixtures.commands import Ran, rag_worker
from tests.fixtures.messages import Messages
from tests.fixtures.outbox_rows import Outbox
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker
from worker.wiring import sweep

TEXT = b"The gull follows the boat."


def queue(ran: Ran, name: str = "dataset") -> dict[str, Any]:
    (found,) = [one for one in ran.json()["queues"] if one["queue"] == name]
    return dict(found)


def audited(ran: Ran) -> dict[str, Any]:
    (line,) = [one for one in ran.err.splitlines() if one.startswith("{")]
    found: dict[str, Any] = json.loads(line)
    assert found["action"] == "audit"
    assert "@" in found["by"]
    return found


def test_queues_tasks_and_documents_without_a_worker(
    app: Flask, submit: Submit, reader: Reader
) -> None:
    first = submit({"a.txt": TEXT}, announce=True)[0].document_id
    message_id = reader.document(first).message_id

    listed = rag_worker("queues", "list", "--json")
    assert listed.code == 6
    assert {f"rag-worker: no live worker serves the queue {one}" for one in QUEUES} == set(
        listed.err.splitlines()
    )
    assert (queue(listed)["in_broker"], queue(listed)["depth"]) == (1, 1)
    assert queue(listed)["consumers"] == []
    shown = rag_worker("tasks", "show", message_id)
    assert "state: in the broker" in shown.out
    assert rag_worker("tasks", "show", uuid4()).failed_in_one_line(4)
    stuck = rag_worker("documents", "stuck", "--older-than", 0, "--json")
    assert (stuck.code, [one["kind"] for one in stuck.json()["documents"]]) == (6, ["starved"])
    assert "1 documents are stuck" in stuck.err
    assert rag_worker("documents", "stuck").out == "no document is stuck\n"
    assert rag_worker("workers").code == 6


def test_a_queue_is_paused_purged_and_resumed(
    app: Flask,
    submit: Submit,
    reader: Reader,
    rows: Outbox,
    messages: Messages,
    start_worker: StartWorker,
) -> None:
    first = submit({"a.txt": TEXT}, announce=True)[0].document_id
    message_id = reader.document(first).message_id
    paused = rag_worker("queues", "pause", "dataset", "--reason", "a bad release")
    assert paused.code == 0
    assert audited(paused)["command"] == "queues pause"
    assert audited(paused)["arguments"]["reason"] == "a bad release"
    assert "is paused already" in rag_worker("queues", "pause", "dataset").failed_in_one_line(4)
    second = submit({"b.txt": TEXT}, announce=True)[0].document_id
    assert len(rows.in_broker()) == 1, "what is accepted while it is paused waits in the outbox"
    assert "PAUSED" in rag_worker("queues", "list").out

    plain = messages.delay("shop.tasks.send_order", "one", queue="dataset")
    asked = rag_worker("queues", "purge", "dataset")
    assert (asked.code, "as dead letters?" in asked.err) == (1, True)
    purged = rag_worker("queues", "purge", "dataset", "--yes", "--json", "--reason", "wrong files")
    assert purged.json() == {"queue": "dataset", "buried": 3, "dropped": 0, "in_hand": 0}
    assert audited(purged)["command"] == "queues purge"

    for one in (first, second):
        assert reader.document(one).indexing_status == DocumentStatus.ERROR
        assert reader.document(one).error == "purged from the queue dataset: wrong files"
    assert {one.message_id for one in messages.letters()} >= {message_id, plain}
    sweep()
    assert (rows.count(), rows.in_broker()) == (0, set()), "no sweep brings anything back"
    assert "dead_letters" in rag_worker("tasks", "show", message_id, "--json").json()

    worker = start_worker("threads", 2, PRESENCE_SECONDS="0.3")
    assert rag_worker("queues", "resume", "dataset").code == 0
    assert "is not paused" in rag_worker("queues", "resume", "dataset").failed_in_one_line(4)
    replayed = rag_worker("dead-letters", "replay", "--task", "document_indexing_task")
    assert replayed.out == "2 replayed\n"
    assert {one.indexing_status for one in reader.await_end(first, second)} == {
        DocumentStatus.COMPLETED
    }
    (found,) = rag_worker("workers", "--json").json()["workers"]
    assert (found["name"], found["pool"], found["state"]) == (worker.name, "thread", "live")
    assert set(found["queues"]) == set(QUEUES)


def test_a_worker_of_some_queues_names_the_others_and_so_does_health(
    app: Flask, start_worker: StartWorker
) -> None:
    worker = start_worker("solo", 1, "-Q", "dataset,mail", PRESENCE_SECONDS="0.3")
    eventually(lambda: "no worker serves so far" in worker.output())
    (line,) = [one for one in worker.output().splitlines() if "no worker serves so far" in one]
    assert "ops_trace" in line
    assert "dataset" not in line

    ran = rag_worker("health")
    assert ran.code == 0, "an empty queue is no problem yet"
    assert "no worker serves the queue ops_trace" in ran.err
    assert "serves the queue dataset" not in ran.err


def test_a_worker_that_is_told_no_queue_serves_all_of_them(app: Flask) -> None:
    assert tuple(app.extensions["celery"].amqp.queues.consume_from) == QUEUES


def test_codes_and_addresses_are_not_in_the_audit(app: Flask) -> None:
    rules = MailRules.of(app.extensions["settings"])
    with Session(db.engine) as session, session.begin():
        send_mail(session, "test", "ada@example.com", rules=rules)
    ran = rag_worker("queues", "purge", "mail", "--yes")
    assert "1 messages are dead letters now" in ran.out
    assert "ada@example.com" not in ran.err
