"""Leases: one worker at a time, and a lost lease writes nothing."""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from flask import Flask
from sqlalchemy import Engine, delete, func, select, text, update
from sqlalchemy.orm import Session

from shared.errors import LeaseLost
from shared.models import Document, DocumentStatus, db
from tests.fixtures.application import Submit
from worker.delivery import lease
from worker.delivery.lease import claim, release, renew

ROUNDS = 20


@pytest.fixture
def engine(app: Flask) -> Engine:
    return db.engine


@pytest.fixture
def row_id(submit: Submit) -> UUID:
    return submit({"a.txt": b"content"})[0].document_id


@pytest.fixture
def expire(engine: Engine) -> Callable[[UUID], None]:
    def let_run_out(row_id: UUID) -> None:
        with engine.begin() as connection:
            ago = func.now() - timedelta(seconds=1)
            connection.execute(
                update(Document).where(Document.id == row_id).values(lease_expires_at=ago)
            )

    return let_run_out


def columns(engine: Engine, row_id: UUID):
    with engine.connect() as connection:
        return connection.execute(
            select(
                Document.lease_token,
                Document.attempts,
                Document.error,
                func.extract("epoch", Document.lease_expires_at - func.now()).label("seconds"),
            ).where(Document.id == row_id)
        ).one()


def test_a_claim_takes_the_next_token_counts_an_attempt_and_writes_its_values(
    engine: Engine, row_id: UUID
) -> None:
    with Session(engine) as session, session.begin():
        taken = claim(session, Document, row_id, 600, error="being read")

    assert taken is not None
    assert (taken.token, taken.attempt) == (1, 1)
    row = columns(engine, row_id)
    assert (row.lease_token, row.attempts, row.error) == (1, 1, "being read")
    assert 300 < row.seconds <= 600


def test_nobody_claims_what_is_held_gone_or_not_claimable(engine: Engine, row_id: UUID) -> None:
    with Session(engine) as session, session.begin():
        waiting = Document.indexing_status == DocumentStatus.WAITING
        assert claim(session, Document, row_id, 600, ~waiting) is None
        assert claim(session, Document, uuid4(), 60) is None
        assert claim(session, Document, row_id, 600, waiting) is not None
        assert claim(session, Document, row_id, 600, waiting) is None

    assert columns(engine, row_id).attempts == 1


def test_of_two_claimers_exactly_one_wins(engine: Engine, row_id: UUID) -> None:
    for number in range(1, ROUNDS + 1):
        together = threading.Barrier(2)
        won: list[lease.Lease] = []

        def race(together: threading.Barrier = together, won: list[lease.Lease] = won) -> None:
            with Session(engine) as session:
                session.connection()
                together.wait(300)
                taken = claim(session, Document, row_id, 600)
                session.commit()
            if taken is not None:
                won.append(taken)

        racers = [threading.Thread(target=race) for _ in range(2)]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join(300)

        assert [one.token for one in won] == [number]
        with Session(engine) as session, session.begin():
            release(session, won[0])


def test_a_lease_that_ran_out_is_taken_and_its_old_token_writes_nothing(
    engine: Engine, row_id: UUID, expire: Callable[[UUID], None]
) -> None:
    with Session(engine) as session, session.begin():
        old = claim(session, Document, row_id, 600)
    expire(row_id)
    with Session(engine) as session, session.begin():
        new = claim(session, Document, row_id, 600)

    assert old is not None
    assert new is not None
    assert (new.token, new.attempt) == (2, 2)
    for write in (renew, release):
        with Session(engine) as session:
            session.execute(update(Document).values(name="written by a worker that lost"))
            with pytest.raises(LeaseLost, match=f"documents {row_id}: token 1 "):
                write(session, old, error="written by a worker that lost")
            session.rollback()

    row = columns(engine, row_id)
    assert (row.lease_token, row.error) == (2, None)
    assert 300 < row.seconds <= 600, "the new owner's lease is as it was"
    with Session(engine) as session:
        assert session.get_one(Document, row_id).name == "a.txt"


def test_a_renewal_prolongs_a_release_frees(engine: Engine, row_id: UUID) -> None:
    with Session(engine) as session, session.begin():
        taken = claim(session, Document, row_id, 60)
    assert taken is not None
    longer = replace(taken, seconds=500)

    with Session(engine) as session, session.begin():
        renew(session, longer, error="half way")
    row = columns(engine, row_id)
    assert (row.error, row.lease_token) == ("half way", 1)
    assert row.seconds > 400

    with Session(engine) as session, session.begin():
        release(session, taken, error=None)
    row = columns(engine, row_id)
    assert (row.error, row.seconds) == (None, None)


def test_a_deleted_row_is_a_lost_lease(engine: Engine, row_id: UUID) -> None:
    with Session(engine) as session, session.begin():
        taken = claim(session, Document, row_id, 600)
        session.execute(delete(Document).where(Document.id == row_id))
    assert taken is not None

    for write in (renew, release):
        with pytest.raises(LeaseLost), Session(engine) as session:
            write(session, taken)


def test_the_clock_is_the_databases(engine: Engine, row_id: UUID) -> None:
    with Session(engine) as session, session.begin():
        assert claim(session, Document, row_id, 600) is not None
        assert claim(session, Document, row_id, 600) is None

    with Session(engine) as session, session.begin():
        session.execute(text("CREATE SCHEMA tomorrow"))
        for clock in ("now", "statement_timestamp", "clock_timestamp"):
            session.execute(
                text(
                    f"CREATE FUNCTION tomorrow.{clock}() RETURNS timestamptz LANGUAGE sql "
                    f"AS $$ SELECT pg_catalog.{clock}() + interval '1 day' $$"
                )
            )
        session.execute(text("SET LOCAL search_path = tomorrow, pg_catalog, public"))
        # To the worker's clock the first lease has most of its time left.
        assert claim(session, Document, row_id, 600) is not None

    day = timedelta(days=1).total_seconds()
    assert day + 300 < columns(engine, row_id).seconds <= day + 600
