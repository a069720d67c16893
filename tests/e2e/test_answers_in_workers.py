"""Real workers die, shut down and are told to stop in the middle of an answer."""

import signal
import threading
from collections.abc import Iterator
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy.orm import Session

from shared.models import MessageStatus, db
from shared.submitting.answer_events import AnswerEvent, EventKind
from shared.submitting.answers import cancel_answer
from tests.fixtures.chat_server import Asked, ChatServer, chunk, raw, saying
from tests.fixtures.commands import RAG_WORKER, StartCommand, rag_worker
from tests.fixtures.questions import QUESTION, Ask, reading, row, text_of
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker, WorkerProcess

SOON = {
    "DELIVERY_LEASE_SECONDS": "10",
    "OUTBOX_REDELIVERY_SECONDS": "1",
    "SWEEP_SECONDS": "1",
    "DELIVERY_SHUTDOWN_GRACE_SECONDS": "0.5",
}
WORDS = " ".join(f"word{number}" for number in range(40))


@pytest.fixture
def environment(chat_environment: dict[str, str]) -> dict[str, str]:
    return chat_environment


class Follower:
    """Reads an answer in a thread of its own."""

    def __init__(self, app: Flask, message_id: UUID) -> None:
        self.events: list[AnswerEvent] = []
        self._source: Iterator[AnswerEvent] = reading(app, message_id)
        self._thread = threading.Thread(target=self._follow)
        self._thread.start()

    def _follow(self) -> None:
        for event in self._source:
            self.events.append(event)

    def has_words(self, least: int) -> bool:
        return text_of(self.events).count("word") >= least

    def to_the_end(self) -> list[AnswerEvent]:
        self._thread.join(300)
        assert self.events[-1].kind is EventKind.ENDED
        return self.events


def owner(workers: list[WorkerProcess], message_id: UUID) -> WorkerProcess:
    """The worker that has the question."""
    held_by = str(row(message_id).lease_owner)
    return next(one for one in workers if held_by.startswith(one.name))


def streams(chat_server: ChatServer) -> list[Asked]:
    """The answers it was asked for; titles and summaries come in one piece."""
    return [one for one in chat_server.asked if one.is_stream]


def has_whole_answer(events: list[AnswerEvent]) -> bool:
    kinds = [one.kind for one in events]
    return (
        text_of(events) == events[-1].data["answer"] == WORDS
        and kinds.count(EventKind.RESTARTED) == 1
        and kinds.count(EventKind.ENDED) == 1
    )


def test_a_death_and_a_shutdown_restart_an_answer_once_and_a_cancel_stops_it(
    app: Flask, start_worker: StartWorker, put: Ask, chat_server: ChatServer
) -> None:
    chat_server.always = saying(WORDS, pause_seconds=0.1)
    workers = [start_worker(pool, 2, **SOON) for pool in ("prefork", "gevent")]

    killed = put(announce=True)
    follower = Follower(app, killed)
    eventually(lambda: follower.has_words(5), 30)
    victim = owner(workers, killed)
    victim.kill()
    assert has_whole_answer(follower.to_the_end())
    assert row(killed).restarts == 1

    workers.remove(victim)
    workers.append(start_worker("gevent", 2, **SOON))
    ended = put(announce=True)
    follower = Follower(app, ended)
    eventually(lambda: follower.has_words(5), 30)
    victim = owner(workers, ended)
    assert victim.terminate() == 0
    assert has_whole_answer(follower.to_the_end())
    assert row(ended).attempts == 1

    # What is left answers on, and stops when told to, while the model is silent.
    chat_server.always = raw(chunk("never"), pause_seconds=3600)
    before = len(streams(chat_server))
    silent = put(announce=True)
    eventually(lambda: len(streams(chat_server)) > before, 30)
    with Session(db.engine) as session, session.begin():
        assert cancel_answer(session, silent)
    eventually(lambda: streams(chat_server)[-1].gone_at is not None)
    eventually(lambda: row(silent).status == MessageStatus.CANCELLED, 5)


def test_ask_prints_the_answer_as_it_comes_with_its_sources(
    app: Flask,
    start_worker: StartWorker,
    start_command: StartCommand,
    put: Ask,
    chat_server: ChatServer,
) -> None:
    put()
    chat_server.always = saying("Once in twelve seconds [1].")
    place = ("--tenant", "acme", "--dataset", "manuals")
    start_worker("gevent", 4)

    asked = rag_worker("ask", QUESTION, *place)
    assert asked.code == 0, asked
    assert asked.out.splitlines()[0] == "Once in twelve seconds [1]."
    assert "[1] lamp.txt, position 0" in asked.out
    conversation = asked.err.split("--conversation ")[1].split()[0]

    again = rag_worker("ask", "And the horn?", *place, "--conversation", conversation, "--json")
    assert again.json()["position"] == 2
    assert again.json()["status"] == "completed"

    chat_server.always = saying(WORDS, pause_seconds=2.0)
    running = start_command([RAG_WORKER, "ask", QUESTION, *place, "--stream"])
    running.await_output("word3")
    assert "word30" not in running.output()
    assert running.end(signal.SIGINT) == 130
    assert "cancelled" in running.output()
    eventually(lambda: streams(chat_server)[-1].gone_at is not None, 10)

    nowhere = rag_worker("ask", QUESTION, "--dataset", "nothing")
    assert "no dataset" in nowhere.failed_in_one_line(4)
