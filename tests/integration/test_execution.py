"""Every end of a task in a real worker, with a message of the outbox and with a plain one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from celery import chain, signature
from flask import Flask
from sqlalchemy import URL, create_engine, make_url, text, update
from sqlalchemy.orm import Session

from shared.models import OutboxMessage, db
from shared.queueing import outbox
from tests.fixtures.messages import Messages
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker, WorkerProcess
from worker.wiring import sweep

PROBES = ("-I", "tests.fixtures.probe_tasks")
SLOTS = 4


def start(start_worker: StartWorker, **variables: str) -> WorkerProcess:
    return start_worker("threads", SLOTS, *PROBES, **variables)


def seconds_from_now(moment: datetime) -> float:
    return (moment - datetime.now(UTC)).total_seconds()


Send = Callable[..., UUID]


def test_every_end_of_a_message_shows_in_the_outbox_and_nowhere_else(
    app: Flask, messages: Messages, start_worker: StartWorker
) -> None:
    worker = start(start_worker, DELIVERY_MAX_ATTEMPTS="4")
    ways: tuple[tuple[str, Send], ...] = (("kept", messages.write), ("plain", messages.delay))
    sent = {
        (way, task): send(f"probe.{task}", f"{way} {task}")
        for way, send in ways
        for task in (
            *("quiet", "superseded", "permanent", "defect", "invalid", "out_of_memory"),
            *("hopeless", "endless", "database_lost"),
        )
    }
    ignored = messages.write("probe.answers_celery", "ignored", "ignore")
    rejected = messages.write("probe.answers_celery", "rejected", "requeue")

    for way, _ in ways:
        for task, exception, attempts, reason in (
            ("defect", "ZeroDivisionError", 1, "a defect"),
            ("invalid", "InvalidRequest", 1, "this cannot be done"),
            ("out_of_memory", "MemoryError", 1, "no room for 10 GB"),
            ("hopeless", "AttemptsExhausted", 3, "never"),
            ("endless", "AttemptsExhausted", 4, "not yet"),
        ):
            letter = messages.await_letter(sent[way, task])
            assert (letter.task, letter.args) == (f"probe.{task}", [f"{way} {task}"])
            assert (letter.exception, letter.attempts) == (exception, attempts), (way, task)
            assert reason in letter.reason
            assert f"in {task}" in (letter.traceback or ""), "the frame that raised it"
            assert messages.runs(f"{way} {task}") == attempts
        eventually(lambda way=way: messages.status(sent[way, "permanent"]) == "FAILURE")
        eventually(lambda way=way: messages.runs(f"{way} database_lost") == 2)
        for task in ("quiet", "superseded", "permanent"):
            eventually(lambda way=way, task=task: messages.runs(f"{way} {task}") == 1)

    messages.await_gone(*sent.values(), ignored, rejected)
    messages.await_quiet_broker()
    assert messages.rows() == []
    assert len(messages.letters()) == 10
    assert messages.status(sent["kept", "superseded"]) is None
    assert messages.status(sent["kept", "defect"]) == "FAILURE"
    assert (messages.runs("ignored"), messages.runs("rejected")) == (1, 2)
    assert worker.process.poll() is None
    for way, _ in ways:
        assert [messages.runs(f"{way} {task}") for task in ("quiet", "permanent")] == [1, 1]


def test_what_waits_for_a_retry_waits_in_the_outbox(
    app: Flask, messages: Messages, start_worker: StartWorker
) -> None:
    worker = start(
        start_worker, DELIVERY_RETRY_BUDGET_SECONDS="3600", CELERY_VISIBILITY_TIMEOUT_SECONDS="60"
    )
    waiting = [
        send("probe.transient", f"{send.__name__} {number}", 600)
        for number in range(SLOTS)
        for send in (messages.write, messages.delay)
    ]
    asked = messages.write("probe.asks_for_a_retry", "asked", 600)
    named = messages.celery.send_task(
        "probe.transient", args=["named by its caller"], task_id="order-4711"
    )

    for message_id in (*waiting, asked):
        row = messages.await_handed_back(message_id)
        assert (row.attempts, row.deaths, row.lease_expires_at) == (1, 0, None)
        assert 200 < seconds_from_now(row.available_at) < 601, "as long as the peer asked for"
        if message_id != asked:
            assert row.error == "come back later"

    # Each slot had two of them; they are all free.
    quick = [messages.write("probe.quiet", f"quick {number}") for number in range(2 * SLOTS)]
    messages.await_gone(*quick)
    messages.await_quiet_broker()
    assert messages.celery.control.inspect([worker.name]).scheduled() == {worker.name: []}

    with db.engine.begin() as connection:
        connection.execute(update(OutboxMessage).values(available_at=datetime.now(UTC)))
    messages.await_gone(*waiting, asked)
    assert {messages.runs(f"{way} 0") for way in ("write", "delay")} == {2}
    assert messages.marks("asked") == ["turn 1", "turn 2"], "with the arguments it asked for"
    assert named.id == "order-4711"
    eventually(lambda: messages.runs("named by its caller") == 2)
    assert messages.letters() == []

    # A task that others hang on is Celery's to retry: the outbox knows nothing of them.
    chain(
        signature("probe.transient", ["first link", 0.01], app=messages.celery),
        signature("probe.quiet", ["second link"], app=messages.celery, immutable=True),
    ).apply_async()
    eventually(lambda: (messages.runs("first link"), messages.runs("second link")) == (2, 1))

    with Session(db.engine) as session, session.begin():
        old = outbox.write(session, "probe.endless", ["old"], celery=messages.celery)
        session.flush()
        long_ago = datetime.now(UTC) - timedelta(seconds=3700)
        session.execute(
            update(OutboxMessage).where(OutboxMessage.id == old).values(created_at=long_ago)
        )
    letter = messages.await_letter(old)
    assert (letter.attempts, messages.runs("old")) == (1, 1)
    assert "not yet" in letter.reason


def test_a_message_that_is_delivered_twice_runs_once(
    messages: Messages, start_worker: StartWorker
) -> None:
    start(start_worker)
    message_id = messages.write("probe.gated", "gated")
    eventually(lambda: messages.runs("gated") == 1)

    for _ in range(2):
        messages.deliver(message_id, "probe.gated", "gated")
    # The copies are answered while the first one runs, and it is all that is left.
    eventually(lambda: messages.redis.hlen("unacked") == 1 and not messages.redis.exists("dataset"))
    messages.open_gate("gated")
    messages.await_gone(message_id)
    messages.deliver(message_id, "probe.gated", "gated")
    messages.await_quiet_broker()

    assert messages.runs("gated") == 1
    assert messages.row(message_id) is None
    assert messages.letters() == []


@pytest.fixture
def outage(server_uri: URL, database_uri: str) -> Iterator[Callable[[], Any]]:
    """Makes the test's database refuse everybody, for as long as the block runs."""
    name = make_url(database_uri).database
    engine = create_engine(server_uri, isolation_level="AUTOCOMMIT")

    def allow(answer: str) -> None:
        with engine.connect() as connection:
            connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {answer}"))
            if answer == "false":
                end_all(connection)

    def end_all(connection: Any) -> None:
        connection.execute(
            text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"),
            {"name": name},
        )

    @contextmanager
    def away(*, for_good: bool = True) -> Iterator[None]:
        db.engine.dispose()
        if not for_good:
            with engine.connect() as connection:
                end_all(connection)
            yield
            return
        allow("false")
        try:
            yield
        finally:
            allow("true")

    yield away
    engine.dispose()


def test_a_database_that_goes_away_loses_nothing(
    messages: Messages, start_worker: StartWorker, outage: Callable[..., Any]
) -> None:
    worker = start(start_worker, DELIVERY_LEASE_SECONDS="6")
    messages.await_gone(*(messages.write("probe.quiet", "before") for _ in range(SLOTS)))

    # Connections that were cut are no failure, at the pick-up or at the end.
    cut = messages.write("probe.gated", "cut")
    eventually(lambda: messages.runs("cut") == 1)
    with outage(for_good=False):
        messages.open_gate("cut")
    messages.await_gone(cut)
    assert messages.runs("cut") == 1

    ends = messages.write("probe.gated", "ends meanwhile")
    eventually(lambda: messages.runs("ends meanwhile") == 1)
    with Session(db.engine) as session, session.begin():
        begins = outbox.write(session, "probe.quiet", ["begins meanwhile"])
        session.flush()
        session.execute(
            update(OutboxMessage)
            .where(OutboxMessage.id == begins)
            .values(published_at=datetime.now(UTC))
        )
    with outage():
        messages.deliver(begins, "probe.quiet", "begins meanwhile")
        plain = str(uuid4())
        messages.celery.send_task("probe.defect", args=["plain meanwhile"], task_id=plain)
        messages.open_gate("ends meanwhile")
        for message_id in (ends, begins, plain):
            line = f"[{message_id}] waits"
            eventually(lambda line=line: line in worker.output())
        assert messages.runs("begins meanwhile") == 0

    # Its first run was done, but nobody could write that down: it runs again.
    messages.open_gate("ends meanwhile")

    def all_done() -> bool:
        sweep()
        return messages.rows() == [] and bool(messages.letters(UUID(plain)))

    eventually(all_done, 60, step=0.5)
    assert messages.runs("ends meanwhile") == 2
    assert messages.runs("begins meanwhile") == 1


def test_what_a_worker_had_in_hand_goes_on_as_soon_as_the_database_is_back(
    messages: Messages, start_worker: StartWorker, outage: Callable[..., Any]
) -> None:
    # Neither the lease's end nor a sweep can bring it back within this test.
    worker = start(start_worker, DELIVERY_LEASE_SECONDS="900", SWEEP_SECONDS="900")
    in_hand = messages.write("probe.gated_query", "in hand")
    eventually(lambda: messages.runs("in hand") == 1)
    with outage():
        messages.open_gate("in hand")
        eventually(lambda: f"[{in_hand}] waits" in worker.output())
    messages.open_gate("in hand")

    messages.await_gone(in_hand)
    assert messages.runs("in hand") == 2
    assert messages.letters() == []
