"""A message exists exactly if its transaction committed, and is published by who wrote it."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from flask import Flask
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

import tests.fixtures.probe_tasks  # noqa: F401 - registers the tasks
from shared.contract import DOCUMENT_INDEXING
from shared.models import Tenant, db
from shared.queueing import outbox
from shared.queueing.celery_settings import celery_settings
from shared.queueing.task import FlaskTask
from shared.settings import load_settings
from tests.fixtures.outbox_rows import MakeRelay, Outbox, statements
from worker.cli.stack.children import free_port


@pytest.fixture
def celery(app: Flask) -> Celery:
    made: Celery = app.extensions["celery"]
    return made


@pytest.fixture
def task(celery: Celery) -> FlaskTask:
    found: Any = celery.tasks["probe.quiet"]
    assert isinstance(found, FlaskTask)
    return found


@pytest.fixture
def own_session(app: Flask) -> Iterator[Session]:
    """A session on an engine with a single connection: nothing may need a second one."""
    engine = create_engine(db.engine.url, pool_size=1, max_overflow=0, pool_timeout=1)
    with Session(engine) as session:
        yield session
    engine.dispose()


def test_it_is_published_at_the_commit_and_not_before(task: FlaskTask, rows: Outbox) -> None:
    message_id = task.delay_on_commit("one")
    db.session.flush()
    assert rows.in_broker() == set()

    db.session.commit()

    assert rows.in_broker() == {str(message_id)}
    (row,) = rows.rows()
    assert (row.id, row.queue, row.args) == (message_id, "dataset", ["one"])
    assert row.published_at is not None
    assert rows.lengths() == [1, 0, 0, 0]


@pytest.mark.parametrize("flushed", [True, False])
@pytest.mark.parametrize("end", ["rollback", "close", "remove"])
def test_without_a_commit_there_is_none(
    task: FlaskTask, rows: Outbox, end: str, *, flushed: bool
) -> None:
    task.delay_on_commit("gone")
    if flushed:
        db.session.flush()
    getattr(db.session, end)()
    db.session.execute(text("SELECT 1"))
    db.session.commit()

    assert (rows.count(), rows.in_broker()) == (0, set())

    kept = task.delay_on_commit("kept")
    db.session.commit()
    assert rows.in_broker() == {str(kept)}


def test_savepoints_take_along_only_their_own(
    celery: Celery, task: FlaskTask, session: Session, rows: Outbox
) -> None:
    def write() -> str:
        return str(task.apply_async_on_commit(["x"], session=session))

    kept = {write()}
    with session.begin_nested():
        kept.add(write())
        undone = session.begin_nested()
        write()
        session.flush()
        undone.rollback()
        assert rows.in_broker() == set()
    undone = session.begin_nested()
    write()
    undone.rollback()
    kept.add(write())
    assert rows.in_broker() == set()
    session.commit()

    assert {str(row.id) for row in rows.rows()} == kept
    assert rows.in_broker() == kept


def test_a_commit_closes_open_savepoints_with_it(
    task: FlaskTask, session: Session, rows: Outbox
) -> None:
    session.begin_nested()
    message_id = task.apply_async_on_commit(["x"], session=session)
    session.commit()

    assert rows.in_broker() == {str(message_id)}


def test_an_error_in_the_block_leaves_nothing(
    task: FlaskTask, own_session: Session, rows: Outbox
) -> None:
    def fail() -> None:
        with own_session.begin():
            task.apply_async_on_commit(["x"], session=own_session)
            own_session.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    own_session.add_all([Tenant(name="twice"), Tenant(name="twice")])
    task.apply_async_on_commit(["x"], session=own_session)
    with pytest.raises(IntegrityError):
        own_session.commit()
    own_session.rollback()

    assert (rows.count(), rows.in_broker()) == (0, set())


def test_a_pool_of_one_connection_is_enough_commit_after_commit(
    task: FlaskTask, own_session: Session, rows: Outbox
) -> None:
    ids = []
    for _ in range(3):
        ids.append(str(task.apply_async_on_commit(["x"], session=own_session)))
        own_session.commit()
        assert rows.in_broker() == set(ids)
        assert rows.lengths()[:2] == [1, len(ids) - 1], "a commit publishes its own alone"
    with own_session.begin():
        ids.append(str(task.apply_async_on_commit(["x"], session=own_session)))

    assert rows.in_broker() == set(ids)


def test_delay_goes_to_the_broker_without_a_row(task: FlaskTask, rows: Outbox) -> None:
    sent = task.delay("x")

    assert (rows.in_broker(), rows.count()) == ({sent.id}, 0)


def test_a_thousand_are_one_insert_and_a_handful_of_queries(task: FlaskTask, rows: Outbox) -> None:
    with statements(db.engine) as sent:
        for number in range(1000):
            task.delay_on_commit(number)
        db.session.commit()

    assert len([one for one in sent if one.startswith("INSERT")]) == 1
    assert len(sent) <= 6, sent
    assert rows.count() == 1000
    assert len(rows.in_broker()) == rows.count("published_at IS NOT NULL") == 64, "the cap"


def test_those_of_the_future_and_those_of_others_wait(
    task: FlaskTask, rows: Outbox, make_relay: MakeRelay
) -> None:
    task.apply_async_on_commit(["later"], delay_seconds=3600)
    db.session.commit()

    assert (rows.count("published_at IS NULL"), rows.in_broker()) == (1, set())
    passed = make_relay().run_pass()
    assert (passed.published, passed.is_backlogged) == (0, False)
    assert 3000 < passed.due_in_seconds <= 3600


def test_a_broker_that_is_away_delays_no_commit_for_long(
    app: Flask, rows: Outbox, make_relay: MakeRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as environment:
        # Celery reads the variable too, whenever it is asked.
        environment.setenv("CELERY_BROKER_URL", f"redis://127.0.0.1:{free_port()}/0")
        away = Celery()
        away.config_from_object(celery_settings(load_settings()))
        began = time.monotonic()
        for _ in range(20):
            outbox.write(db.session, DOCUMENT_INDEXING.name, [str(uuid4()), []], celery=away)
            db.session.commit()
        assert time.monotonic() - began < 60, "on an idle machine it is one"
    assert rows.count("published_at IS NULL") == 20

    make_relay().run_pass()
    assert len(rows.in_broker()) == 20


PRODUCER = """
    import os, signal
    from uuid import uuid4
    from sqlalchemy import create_engine, event
    from sqlalchemy.orm import Session
    from shared.contract import DOCUMENT_INDEXING
    from shared.extensions.celery import Celery
    from shared.queueing import outbox
    from shared.queueing.celery_settings import celery_settings
    from shared.settings import load_settings

    settings = load_settings()
    celery = Celery()
    celery.config_from_object(celery_settings(settings))
    session = Session(create_engine(settings.database.url))
    event.listen(session, "after_commit", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    outbox.write(session, DOCUMENT_INDEXING.name, [str(uuid4()), []], celery=celery)
    session.commit()
"""


def test_the_relay_publishes_what_a_killed_producer_left(
    environment: dict[str, str],
    rows: Outbox,
    make_relay: MakeRelay,
    pytestconfig: pytest.Config,
) -> None:
    died = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PRODUCER)],
        env={**os.environ, **environment, "PYTHONPATH": str(pytestconfig.rootpath)},
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert (rows.count("published_at IS NULL"), rows.in_broker()) == (1, set())

    make_relay().run_pass()

    assert rows.in_broker() == {str(row.id) for row in rows.rows()}
