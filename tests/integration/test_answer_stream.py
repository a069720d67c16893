"""An answer's stream: written by its newest owner only, read on exactly, whole after any loss."""

import threading
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask import Flask
from redis import Redis
from sqlalchemy.orm import Session, sessionmaker

from shared.errors import AnswerNotEnded, InvalidRequest, LeaseLost, NotFound
from shared.models import Dataset, Message, MessageStatus, db
from shared.submitting.answer_events import AnswerEvent, EventKind, stream_key
from shared.submitting.answer_reading import END, read_answer
from shared.submitting.answers import ask, cancel_answer
from tests.fixtures.waiting import eventually
from worker.stores.answer_stream import AnswerStream, AnswerStreams


@pytest.fixture
def redis(app: Flask) -> "Redis":
    return app.extensions["redis"]


@pytest.fixture
def streams(redis: "Redis") -> AnswerStreams:
    return AnswerStreams(redis, keep_seconds=60, flush_seconds=0.005)


@pytest.fixture
def message_id(session: Session, dataset_id: UUID) -> UUID:
    tenant_id = session.get_one(Dataset, dataset_id).tenant_id
    made = ask(session, tenant_id, "how long?", [dataset_id])
    session.commit()
    return made


@pytest.fixture
def read(redis: "Redis", message_id: UUID) -> Any:
    sessions = sessionmaker(db.engine)

    def events(after: str | None = None, **options: Any) -> Iterator[AnswerEvent]:
        options = {"timeout_seconds": 20, **options}
        return read_answer(message_id, sessions=sessions, redis=redis, after=after, **options)

    return events


def told(events: list[AnswerEvent]) -> list[str]:
    """Kinds, and the text of chunks that follow on each other."""
    said: list[str] = []
    for event in events:
        if event.kind is EventKind.CHUNK and said and said[-1].startswith("+"):
            said[-1] += event.data["text"]
        else:
            said.append("+" + event.data["text"] if event.kind is EventKind.CHUNK else event.kind)
    return said


def end(session: Session, message_id: UUID, answer: str | None, token: int = 1) -> None:
    """What a worker does at the end, in short."""
    session.rollback()
    message = session.get_one(Message, message_id, populate_existing=True)
    message.status = MessageStatus.COMPLETED if answer else MessageStatus.ERROR
    message.answer, message.lease_token = answer, token
    session.commit()


def is_refused(stream: AnswerStream) -> bool:
    try:
        stream.write("!")
    except LeaseLost:
        return True
    return False


def entries(redis: "Redis", message_id: UUID) -> int:
    return redis.xlen(stream_key(message_id))


def test_what_is_written_is_read_in_its_order_and_the_row_says_the_end(
    streams: AnswerStreams, session: Session, message_id: UUID, read: Any
) -> None:
    stream = streams.open(message_id, 1, 1)
    stream.start()
    stream.show_sources([{"number": 1, "content": "纳秒 <b>"}])
    for word in ("It ", "takes ", "纳秒 [1]"):
        stream.write(word)
    end(session, message_id, "It takes 纳秒 [1]")
    stream.end()

    events = list(read())

    assert told(events) == ["started", "sources", "+It takes 纳秒 [1]", "ended"]
    assert events[1].data["sources"][0]["content"] == "纳秒 <b>"
    assert events[-1].data["answer"] == "It takes 纳秒 [1]"
    assert events[-1].data["status"] == "completed"


def test_a_reader_that_comes_back_gets_exactly_what_it_lacks(
    streams: AnswerStreams, session: Session, message_id: UUID, read: Any, redis: "Redis"
) -> None:
    stream = streams.open(message_id, 1, 1)
    stream.start()
    for number in range(20):
        stream.write(f"{number} ")
        eventually(lambda: entries(redis, message_id) == number + 2, 5, 0.002)  # noqa: B023
    whole = "".join(f"{number} " for number in range(20))
    end(session, message_id, whole)
    stream.end()

    events = list(read())
    for place, event in enumerate(events[:-1]):
        rest = list(read(after=event.id))
        assert [one.id for one in rest] == [one.id for one in events[place + 1 :]]
    assert told(list(read(after=END))) == ["ended"]


def test_a_second_owner_restarts_it_and_the_first_can_not_write_any_more(
    streams: AnswerStreams, session: Session, message_id: UUID, read: Any, redis: "Redis"
) -> None:
    first = streams.open(message_id, 1, 1)
    first.start()
    first.write("half an ")
    eventually(lambda: entries(redis, message_id) == 2, 5)
    second = streams.open(message_id, 2, 2)
    second.start()
    second.write("a whole ")
    eventually(lambda: entries(redis, message_id) == 4, 5)

    first.write("answer")
    eventually(lambda: is_refused(first), 5, 0.01)
    second.write("answer")
    end(session, message_id, "a whole answer", token=2)
    second.end()

    assert told(list(read())) == [
        "started", "+half an ", "restarted", "+a whole answer", "ended"
    ]  # fmt: skip


def test_an_attempt_that_showed_nothing_is_no_restart(
    streams: AnswerStreams, session: Session, message_id: UUID, read: Any, redis: "Redis"
) -> None:
    first = streams.open(message_id, 1, 1)
    first.start()
    first.wait("the provider is busy")
    eventually(lambda: entries(redis, message_id) == 2, 5)
    second = streams.open(message_id, 2, 2)
    second.start()
    second.write("there")
    end(session, message_id, "there", token=2)
    second.end()

    assert told(list(read())) == ["started", "waiting", "started", "+there", "ended"]


def test_redis_is_wiped_in_the_middle_and_the_reader_has_the_whole_answer(
    streams: AnswerStreams, session: Session, message_id: UUID, read: Any, redis: "Redis"
) -> None:
    stream = streams.open(message_id, 1, 1)
    stream.start()
    stream.show_sources([{"number": 1}])
    stream.write("one ")
    events: list[AnswerEvent] = []
    is_begun = threading.Event()

    def follow() -> None:
        for event in read():
            events.append(event)
            if event.kind is EventKind.CHUNK:
                is_begun.set()

    reader = threading.Thread(target=follow)
    reader.start()
    assert is_begun.wait(300)
    redis.flushall()
    stream.write("two ")
    eventually(lambda: entries(redis, message_id) > 0, 5)
    stream.write("three")
    end(session, message_id, "one two three")
    stream.end()
    reader.join(300)

    assert told(events) == [
        "started", "sources", "+one ", "restarted", "sources", "+one two three", "ended"
    ]  # fmt: skip
    # So does one who knew an entry that is gone.
    assert told(list(read(after=events[2].id))) == [
        "restarted", "sources", "+one two three", "ended"
    ]  # fmt: skip


@pytest.mark.parametrize("written", ["", "half an "])
def test_without_a_last_entry_the_row_has_the_rest(
    streams: AnswerStreams,
    session: Session,
    message_id: UUID,
    read: Any,
    redis: "Redis",
    written: str,
) -> None:
    """The worker died between its commit and its last entry, or Redis was away all along."""
    if written:
        stream = streams.open(message_id, 1, 1)
        stream.start()
        stream.write(written)
        eventually(lambda: entries(redis, message_id) == 2, 5)
    end(session, message_id, "half an answer")

    events = list(read())
    text = "".join(one.data["text"] for one in events if one.kind is EventKind.CHUNK)
    assert text == "half an answer"
    assert events[-1].kind is EventKind.ENDED
    assert EventKind.RESTARTED not in [one.kind for one in events]


def test_an_answer_that_ended_in_error_ends_its_reader(
    session: Session, message_id: UUID, read: Any
) -> None:
    end(session, message_id, None)
    assert told(list(read())) == ["ended"]


def test_a_reader_waits_with_heartbeats_and_not_for_ever(
    message_id: UUID, read: Any, session: Session
) -> None:
    events: list[AnswerEvent] = []
    with pytest.raises(AnswerNotEnded):
        events.extend(read(timeout_seconds=1.2, heartbeat_seconds=0.4))
    assert {one.kind for one in events} == {EventKind.HEARTBEAT}


def test_cancelling_what_nobody_works_on_ends_it_and_its_reader_at_once(
    session: Session, message_id: UUID, read: Any, redis: "Redis"
) -> None:
    assert cancel_answer(session, message_id, redis=redis)
    session.commit()
    assert next(iter(read(timeout_seconds=0.9))).data["status"] == "cancelled"
    assert not cancel_answer(session, message_id)


def test_redis_away_costs_the_display_and_not_the_answer(
    app: Flask, session: Session, message_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.stores.answer_stream._LATEST_SECONDS", 0.0)
    away = Redis(port=1, socket_timeout=0.2, socket_connect_timeout=0.2)
    stream = AnswerStreams(away, 60, 0.005).open(message_id, 1, 1)
    stream.start()
    stream.write("all of it")
    end(session, message_id, "all of it")
    stream.end()
    events = list(
        read_answer(message_id, sessions=sessionmaker(db.engine), redis=away, timeout_seconds=20)
    )
    assert told(events) == ["sources", "+all of it", "ended"]


def test_mistakes_are_typed_errors_before_anything_is_read(read: Any, redis: "Redis") -> None:
    with pytest.raises(InvalidRequest, match="no event's id"):
        read(after="yesterday")
    with pytest.raises(NotFound):
        read_answer(uuid4(), sessions=sessionmaker(db.engine), redis=redis)
