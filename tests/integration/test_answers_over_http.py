"""The blueprint in a Flask application of somebody else's, on a real server."""

import json
import threading
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from flask import Flask
from sqlalchemy.orm import Session, sessionmaker
from werkzeug.serving import make_server

from shared.models import Dataset, Message, MessageStatus, db
from shared.submitting.answers import ask
from shared.web.answers import Access, answers_blueprint
from tests.fixtures.waiting import eventually
from worker.stores.answer_stream import AnswerStream, AnswerStreams


@pytest.fixture
def tenant_id(session: Session, dataset_id: UUID) -> UUID:
    return session.get_one(Dataset, dataset_id).tenant_id


@pytest.fixture
def message_id(session: Session, dataset_id: UUID, tenant_id: UUID) -> UUID:
    made = ask(session, tenant_id, "how long?", [dataset_id])
    session.commit()
    return made


@pytest.fixture
def wanted() -> list[Access]:
    return []


@pytest.fixture
def url(app: Flask, tenant_id: UUID, wanted: list[Access]) -> Iterator[str]:
    mine = Flask("mine")

    def authorize(access: Access) -> Any:
        wanted.append(access)
        from flask import request

        # Not what was asked for: only True opens.
        return True if request.headers.get("X-User") == "me" else "yes"

    mine.register_blueprint(
        answers_blueprint(
            sessionmaker(db.engine),
            app.extensions["redis"],
            authorize=authorize,
            asker=lambda: tenant_id,
            heartbeat_seconds=0.3,
            timeout_seconds=2,
        ),
        url_prefix="/api",
    )
    server = make_server("127.0.0.1", 0, mine, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/api"
    server.shutdown()
    thread.join()
    server.server_close()


ME = {"X-User": "me"}


@pytest.fixture
def stream(app: Flask, message_id: UUID) -> AnswerStream:
    return AnswerStreams(app.extensions["redis"], 60, 0.005).open(message_id, 1, 1)


def frames(text: str) -> list[dict[str, str]]:
    """Events of a stream, fields by name; comments are left out."""
    found = []
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if line and not line.startswith(":")]
        if lines:
            found.append(dict(line.split(": ", 1) for line in lines))
    return found


def test_a_stream_is_resumed_by_the_last_event_id_and_ends(
    url: str,
    stream: AnswerStream,
    message_id: UUID,
    session: Session,
    wanted: list[Access],
    tenant_id: UUID,
) -> None:
    stream.start()
    stream.write("two\nlines, 两行")
    with httpx.stream("GET", f"{url}/answers/{message_id}/events", headers=ME) as first:
        assert first.headers["Content-Type"].startswith("text/event-stream")
        assert "no-cache" in first.headers["Cache-Control"]
        assert first.headers["X-Accel-Buffering"] == "no"
        # It is not ended: the server closes the stream after its time, with comments on the way.
        text = "".join(first.iter_text())
    assert ": still there" in text
    assert text.startswith("retry: ")
    chunk = next(one for one in frames(text) if one.get("event") == "chunk")
    assert json.loads(chunk["data"]) == {"text": "two\nlines, 两行"}

    stream.write(" and more")
    message = session.get_one(Message, message_id)
    message.status, message.answer = MessageStatus.COMPLETED, "two\nlines, 两行 and more"
    message.lease_token = 1
    session.commit()
    stream.end()
    again = httpx.get(
        f"{url}/answers/{message_id}/events", headers={**ME, "Last-Event-ID": chunk["id"]}
    )
    rest = [one for one in frames(again.text) if "event" in one]
    assert [one["event"] for one in rest] == ["chunk", "ended"]
    assert json.loads(rest[0]["data"]) == {"text": " and more"}
    ended = json.loads(rest[1]["data"])
    assert ended["answer"] == "two\nlines, 两行 and more"
    # Who has heard the end is told to come no more.
    last = {**ME, "Last-Event-ID": rest[1]["id"]}
    assert httpx.get(f"{url}/answers/{message_id}/events", headers=last).status_code == 204
    assert wanted[0] == Access("read", message_id, UUID(ended["conversation_id"]), tenant_id)


def test_nobody_reads_or_cancels_who_may_not(url: str, message_id: UUID, session: Session) -> None:
    for headers in ({}, {"X-User": "you"}):
        read = httpx.get(f"{url}/answers/{message_id}/events", headers=headers)
        cancel = httpx.post(f"{url}/answers/{message_id}/cancel", headers=headers)
        missing = httpx.get(f"{url}/answers/{uuid4()}/events", headers=headers)
        assert read.status_code == cancel.status_code == missing.status_code == 404
        assert read.json()["error"].replace(str(message_id), "") == (
            missing.json()["error"].replace(missing.json()["error"].split()[-1], "")
        )
    assert session.get_one(Message, message_id).status == MessageStatus.WAITING


def test_a_question_is_put_cancelled_and_its_mistakes_are_named(
    url: str, dataset_id: UUID, session: Session
) -> None:
    asked = httpx.post(
        f"{url}/answers", json={"question": "why?", "dataset_ids": [str(dataset_id)]}
    )
    assert asked.status_code == 202
    where = f"{url}/answers/{asked.json()['message_id']}"
    assert httpx.post(f"{where}/cancel", headers=ME).json() == {"cancelled": True}
    assert httpx.post(f"{where}/cancel", headers=ME).json() == {"cancelled": False}
    events = frames(httpx.get(f"{where}/events", headers=ME).text)
    assert json.loads(events[-1]["data"])["status"] == "cancelled"

    for wrong in ({}, [], {"question": "why?", "dataset_ids": [str(uuid4())]}, {"question": 3}):
        refused = httpx.post(f"{url}/answers", json=wrong)
        assert refused.status_code in {400, 404}
        assert refused.json()["error"]
    no_json = httpx.post(
        f"{url}/answers", content=b"{", headers={"Content-Type": "application/json"}
    )
    assert no_json.status_code == 400
    bad = httpx.get(f"{where}/events", headers={**ME, "Last-Event-ID": "yesterday"})
    assert bad.status_code == 400


def test_it_can_not_be_mounted_without_saying_who_may_read(app: Flask) -> None:
    with pytest.raises(TypeError, match="authorize"):
        answers_blueprint(sessionmaker(db.engine), app.extensions["redis"])  # type: ignore[call-arg]


def test_a_reader_that_goes_away_leaves_nothing_behind(
    app: Flask, url: str, message_id: UUID, stream: AnswerStream
) -> None:
    stream.start()
    redis = app.extensions["redis"]
    with httpx.stream("GET", f"{url}/answers/{message_id}/events", headers=ME) as opened:
        next(opened.iter_text())
    eventually(lambda: redis.info("clients")["blocked_clients"] == 0, 10)
