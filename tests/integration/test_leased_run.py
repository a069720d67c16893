"""How a leased row's work ends, and what of that its row says."""

import threading
from collections.abc import Callable
from contextlib import nullcontext
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from shared.errors import (
    AttemptsExhausted,
    ConfigurationError,
    LeaseLost,
    Permanent,
    RateLimited,
    ServiceUnavailable,
    ShuttingDown,
    SubjectGone,
    UnexpectedFailure,
)
from shared.models import Document, db
from tests.fixtures.application import Submit
from tests.fixtures.waiting import eventually
from worker.delivery.heartbeat import Heartbeat
from worker.delivery.lease import Lease, claim, release
from worker.delivery.leased_run import attempts_after, require_attempts_left, run_leased
from worker.delivery.owed import Owed

SERVER_AWAY = OperationalError("SELECT 1", {}, Exception("the server closed the connection"))


class Hearts:
    def keep(self, lease: Lease) -> nullcontext[None]:
        return nullcontext()

    def owe(self, give_back: Callable[[], None]) -> None:
        raise AssertionError("the database is there")


class Ends:
    """Writes to the row as services do."""

    def __init__(self, engine: Engine, lease: Lease) -> None:
        self.engine = engine
        self.lease = lease

    def hand_back(self, error: Exception) -> None:
        attempts = attempts_after(self.lease, error)
        with Session(self.engine) as session, session.begin():
            release(session, self.lease, error=f"again: {error}", attempts=attempts)

    def fail(self, error: Permanent | ConfigurationError) -> None:
        with Session(self.engine) as session, session.begin():
            release(session, self.lease, error=f"ended: {error}", attempts=0)


@pytest.fixture
def engine(app: Flask) -> Engine:
    return db.engine


@pytest.fixture
def lease(engine: Engine, submit: Submit) -> Lease:
    row_id = submit({"a.txt": b"content"})[0].document_id
    with Session(engine) as session, session.begin():
        taken = claim(session, Document, row_id, 600)
    assert taken is not None
    return taken


def row(engine: Engine, row_id: UUID) -> tuple[str | None, int, bool]:
    query = text("SELECT error, attempts, lease_owner IS NOT NULL FROM documents WHERE id = :id")
    with engine.connect() as connection:
        error, attempts, is_held = connection.execute(query, {"id": row_id}).one()
    return error, attempts, is_held


def run(engine: Engine, lease: Lease, error: BaseException | None) -> str:
    def work() -> str:
        if error is not None:
            raise error
        return "done"

    return run_leased(work, lease, Ends(engine, lease), heartbeat=Hearts())


def test_work_that_gets_to_its_end_writes_that_itself(engine: Engine, lease: Lease) -> None:
    assert run(engine, lease, None) == "done"

    assert row(engine, lease.row_id) == (None, 1, True)


@pytest.mark.parametrize(
    ("error", "raised", "said"),
    [
        (ServiceUnavailable("busy"), ServiceUnavailable, ("again: busy", 1, False)),
        (ShuttingDown("stop"), ShuttingDown, ("again: stop", 0, False)),
        (RateLimited("later"), RateLimited, ("again: later", 0, False)),
        (SERVER_AWAY, OperationalError, (f"again: {SERVER_AWAY}", 1, False)),
        (Permanent("broken"), Permanent, ("ended: broken", 0, False)),
        (ConfigurationError("no key"), ConfigurationError, ("ended: no key", 0, False)),
        (KeyError("x"), UnexpectedFailure, ("ended: unexpected KeyError: 'x'", 0, False)),
        (LeaseLost("not ours"), LeaseLost, (None, 1, True)),
        (SubjectGone("deleted"), SubjectGone, (None, 1, True)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_stops_the_work_is_written_to_the_row_by_its_family(
    engine: Engine,
    lease: Lease,
    error: Exception,
    raised: type[Exception],
    said: tuple[str | None, int, bool],
) -> None:
    with pytest.raises(raised):
        run(engine, lease, error)

    assert row(engine, lease.row_id) == said


@pytest.mark.parametrize("error", [ServiceUnavailable("busy"), Permanent("broken")], ids=repr)
def test_a_row_that_somebody_else_has_by_then_is_left_alone(
    engine: Engine, lease: Lease, error: Exception
) -> None:
    past = text("UPDATE documents SET lease_expires_at = now() - interval '1 s' WHERE id = :id")
    with Session(engine) as session, session.begin():
        session.execute(past, {"id": lease.row_id})
        assert claim(session, Document, lease.row_id, 600) is not None

    with pytest.raises(type(error), match=str(error)):
        run(engine, lease, error)

    assert row(engine, lease.row_id) == (None, 2, True)


def test_a_server_that_is_away_when_the_row_is_handed_back_hides_no_reason(
    engine: Engine, lease: Lease
) -> None:
    class Away(Ends):
        def hand_back(self, error: Exception) -> None:
            raise SERVER_AWAY

    def work() -> None:
        raise ServiceUnavailable("busy")

    with pytest.raises(ServiceUnavailable, match="busy"):
        run_leased(work, lease, Away(engine, lease), heartbeat=Heartbeat(engine))

    assert row(engine, lease.row_id) == (None, 1, True)


def test_what_could_not_be_handed_back_is_when_the_database_is_there_again(
    engine: Engine, lease: Lease
) -> None:
    is_away, tried = threading.Event(), threading.Semaphore(0)
    is_away.set()

    class Away(Ends):
        def hand_back(self, error: Exception) -> None:
            tried.release()
            if is_away.is_set():
                raise SERVER_AWAY
            super().hand_back(error)

    def work() -> None:
        raise ServiceUnavailable("busy")

    with pytest.raises(ServiceUnavailable):
        run_leased(work, lease, Away(engine, lease), heartbeat=Heartbeat(engine))
    for _ in range(3):
        assert tried.acquire(timeout=300), "it is tried again and again"
    assert row(engine, lease.row_id) == (None, 1, True)

    is_away.clear()
    eventually(lambda: row(engine, lease.row_id) == ("again: busy", 1, False))


def test_what_is_handed_back_too_late_is_left_alone_and_holds_up_no_other(
    engine: Engine, lease: Lease
) -> None:
    is_away = True
    given_back: list[str] = []

    def own() -> None:
        if is_away:
            raise SERVER_AWAY
        Ends(engine, lease).hand_back(ServiceUnavailable("busy"))
        given_back.append("own")

    def broken() -> None:
        raise KeyError("a defect")

    owed = Owed()
    for write in (own, broken, lambda: given_back.append("other")):
        owed.add(write)
    owed.settle()
    assert given_back == [], "in their order"
    past = text("UPDATE documents SET lease_expires_at = now() - interval '1 s' WHERE id = :id")
    with Session(engine) as session, session.begin():
        session.execute(past, {"id": lease.row_id})
        assert claim(session, Document, lease.row_id, 600) is not None

    is_away = False
    owed.settle()

    assert given_back == ["other"]
    assert not owed
    assert row(engine, lease.row_id) == (None, 2, True)


def test_words_of_an_unexpected_error_can_be_withheld(engine: Engine, lease: Lease) -> None:
    def work() -> None:
        raise ValueError("code 1234")

    ends = Ends(engine, lease)
    with pytest.raises(UnexpectedFailure):
        run_leased(work, lease, ends, heartbeat=Hearts(), words=lambda error: type(error).__name__)

    assert row(engine, lease.row_id) == ("ended: ValueError", 0, False)


@pytest.mark.parametrize(
    ("attempt", "deaths", "message"),
    [
        (3, 2, "the worker died 2 times on this import (it broke)"),
        (4, 0, "given up after 3 attempts; the last ended so: it broke; try again"),
    ],
)
def test_what_was_tried_often_enough_ends(attempt: int, deaths: int, message: str) -> None:
    def require(attempt: int, deaths: int) -> None:
        require_attempts_left(
            Lease(Document, UUID(int=1), 1, attempt, deaths, 60),
            "this import",
            max_attempts=3,
            max_deaths=2,
            last_error="it broke",
            way_out="try again",
        )

    require(3, 1)
    with pytest.raises(AttemptsExhausted) as raised:
        require(attempt, deaths)
    assert str(raised.value) == message
