"""Entries of the schedule run alone, also beside workers that died in the middle of them."""

import threading
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.errors import ServiceUnavailable
from shared.models import ScheduledRun, db
from worker.delivery.alone import Done, Turn, Work, run_alone, run_id
from worker.wiring.foundations import heartbeat, sessions


def run(work: Work, rest_seconds: float = 0.0) -> Done | None:
    return run_alone(
        "tidy",
        work,
        sessions=sessions(),
        heartbeat=heartbeat(),
        lease_seconds=30,
        rest_seconds=rest_seconds,
    )


def row() -> ScheduledRun:
    with Session(db.engine, expire_on_commit=False) as session:
        return session.get_one(ScheduledRun, run_id("tidy"))


def three(turn: Turn) -> Done:
    return Done(3, "3 things")


def test_a_run_leaves_what_it_did_and_is_free_again(app: Flask) -> None:
    assert run(three) == Done(3, "3 things")
    assert run(three) == Done(3, "3 things")

    assert (row().total, row().report, row().error) == (6, "3 things", None)
    assert row().lease_expires_at is None
    assert row().ended_at is not None


def test_a_second_run_goes_away_while_one_is_at_it(app: Flask) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def long(turn: Turn) -> Done:
        begun.set()
        assert may_end.wait(300)
        return Done(1, "1")

    def in_thread() -> None:
        with app.app_context():
            run(long)

    thread = threading.Thread(target=in_thread)
    thread.start()
    assert begun.wait(300)
    assert run(three) is None
    may_end.set()
    thread.join()
    assert row().total == 1


def test_where_a_run_died_the_next_goes_on_when_the_lease_is_over(app: Flask) -> None:
    def dies(turn: Turn) -> Done:
        turn.reach("half way")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(dies)
    # As a kill -9 leaves it.
    with db.engine.begin() as connection:
        connection.execute(
            text("UPDATE scheduled_runs SET lease_expires_at = now() + interval '1 minute'")
        )
    assert run(three) is None
    with db.engine.begin() as connection:
        connection.execute(
            text("UPDATE scheduled_runs SET lease_expires_at = now() - interval '1 second'")
        )
    found: list[str | None] = []

    def goes_on(turn: Turn) -> Done:
        found.append(turn.position)
        turn.reach(None)
        return Done(0, "")

    assert run(goes_on) == Done(0, "")
    assert found == ["half way"]
    assert (row().position, row().deaths) == (None, 1)


def test_a_failure_is_told_and_the_next_run_is_not_kept_out_by_its_rest(app: Flask) -> None:
    def fails(turn: Turn) -> Done:
        raise ServiceUnavailable("the store is away")

    with pytest.raises(ServiceUnavailable):
        run(fails)
    assert row().error == "the store is away"

    assert run(three, rest_seconds=60) is not None, "what failed is due at once"
    assert run(three, rest_seconds=60) is None, "what went well rests"
    assert row().error is None
    assert isinstance(run_id("tidy"), UUID)
