"""Verdicts on what really happened: nobody there, a server down, a worker killed, time over."""

import threading
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy.orm import Session

from tests.fixtures.application import Submit
from tests.fixtures.commands import rag_worker
from tests.fixtures.embedding_server import (
    Answer,
    Asked,
    EmbeddingServer,
    refusing,
    remote_dataset,
    well,
)
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker
from worker.cli.why import bounds
from worker.services.dataset.explaining import explain
from worker.services.dataset.verdict import Cause, Kind, Verdict

SECONDS = 300
QUICK = {"DELIVERY_LEASE_SECONDS": "2", "OUTBOX_REDELIVERY_SECONDS": "2"}


@pytest.fixture
def environment(
    environment: dict[str, str], embedding_server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    ours = {"EMBEDDING_BASE_URL": embedding_server.url, "EMBEDDING_API_KEY": "key"}
    for name, value in ours.items():
        monkeypatch.setenv(name, value)
    return environment | ours


@pytest.fixture
def dataset_id(session: Session) -> UUID:
    return remote_dataset(session)


def test_each_verdict_comes_about_by_itself(
    app: Flask,
    session: Session,
    submit: Submit,
    start_worker: StartWorker,
    embedding_server: EmbeddingServer,
) -> None:
    (one,) = submit({"lamp.txt": b"The lamp turns. " * 50}, announce=True)
    go_on = threading.Event()

    def stall(asked: Asked) -> Answer:
        go_on.wait(SECONDS)
        return well(asked)

    def verdict() -> Verdict:
        session.rollback()
        return explain(session, one.document_id, bounds())

    def becomes(kind: Kind) -> Verdict:
        seen: list[Verdict] = []

        def is_there() -> bool:
            seen.append(verdict())
            return seen[-1].kind is kind

        eventually(is_there, SECONDS)
        return seen[-1]

    starved = verdict()
    assert (starved.kind, starved.cause) == (Kind.STARVED, Cause.NO_WORKER)

    embedding_server.always = refusing(503, "come back later")
    worker = start_worker("prefork", 1, SWEEP_SECONDS="3600", **QUICK)
    retrying = becomes(Kind.RETRYING)
    assert "answers 503" in (retrying.error or "")
    assert retrying.until is not None

    embedding_server.always = stall
    assert (becomes(Kind.RUNNING).worker or "").startswith(worker.name)
    worker.kill()
    stuck = becomes(Kind.STUCK)
    assert stuck.cause is Cause.WORKER_DIED
    assert worker.name in stuck.summary

    start_worker("prefork", 1, SWEEP_SECONDS="1", DELIVERY_TASK_DEADLINE_SECONDS="10", **QUICK)
    dead = becomes(Kind.DEAD)
    assert "deadline of 10 s" in (dead.error or "")
    eventually(lambda: verdict().dead_letter_id is not None, SECONDS)

    go_on.set()
    replayed = rag_worker("dead-letters", "replay", verdict().dead_letter_id)
    assert replayed.code == 0, replayed
    assert becomes(Kind.COMPLETED).way_out == "nothing is to be done"
    assert rag_worker("why", one.document_id, "--json").json()["kind"] == "completed"
