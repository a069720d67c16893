"""The relay's thread: what wakes it, and what it survives."""

import contextlib
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask
from prometheus_client import REGISTRY
from redis import Redis
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from shared.contract import DOCUMENT_INDEXING, QUEUES
from shared.models import db
from shared.queueing import outbox
from shared.queueing.publishing import Bounds
from tests.fixtures.outbox_rows import MakeRelay, Outbox
from tests.fixtures.waiting import eventually
from worker.cli.stack.valkey import EmbeddedValkey
from worker.delivery.broker import message_ids
from worker.delivery.relay import Relay
from worker.delivery.relay_thread import RelayThread

FAILED = ("rag_worker_relay_failures_total", {"kind": "unexpected"})


@pytest.fixture
def run_thread(make_relay: MakeRelay, app: Flask) -> Iterator[Any]:
    """Relay threads that would wait for an hour unless something wakes them."""
    started: list[RelayThread] = []

    def run(poll_seconds: float = 3600, *chores: Any, **bounds: int) -> RelayThread:
        thread = RelayThread(make_relay(**bounds), db.engine, poll_seconds, chores)
        started.append(thread)
        thread.start()
        return thread

    failed = REGISTRY.get_sample_value(*FAILED) or 0.0
    yield run
    for thread in started:
        thread.stop()
    assert (REGISTRY.get_sample_value(*FAILED) or 0.0) == failed, "the relay failed, see its log"


def listeners(rows: Outbox) -> list[int]:
    with rows.engine.connect() as connection:
        query = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query = :q"
        return list(connection.scalars(text(query), {"q": "LISTEN rag_worker_outbox"}))


def test_a_message_without_celery_is_announced_by_the_database(
    rows: Outbox, session: Session, run_thread: Any
) -> None:
    run_thread()
    eventually(lambda: len(listeners(rows)) == 1, 20)
    outbox.write(session, DOCUMENT_INDEXING.name, [str(uuid4()), []])
    session.commit()

    eventually(lambda: len(rows.in_broker()) == 1, 20)


def test_room_made_by_a_task_that_ended_is_used_at_once(rows: Outbox, run_thread: Any) -> None:
    rows.fill(uuid4(), 3)
    thread = run_thread(tenant_cap=1)
    for left in (2, 1, 0):
        eventually(lambda left=left: rows.count("published_at IS NULL") == left, 20)  # type: ignore[misc]
        assert sum(rows.lengths()) == 3 - left
        rows.change("DELETE FROM outbox WHERE published_at IS NOT NULL")
        thread.task_ended()


def test_a_delayed_message_goes_when_its_time_has_come(rows: Outbox, run_thread: Any) -> None:
    rows.fill(uuid4(), 1, delay=1.5)
    run_thread()
    # The broker has it before its row says so.
    eventually(lambda: rows.rows()[0].published_at is not None, 20)
    assert len(rows.in_broker()) == 1
    (row,) = rows.rows()
    assert row.published_at >= row.available_at


def test_it_recovers_from_lost_database_connections(
    rows: Outbox, session: Session, run_thread: Any
) -> None:
    run_thread()
    for _ in range(2):
        eventually(lambda: len(listeners(rows)) == 1, 20)
        (before,) = listeners(rows)
        with contextlib.suppress(SQLAlchemyError):
            rows.change(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        rows.engine.dispose()
        eventually(lambda before=before: listeners(rows) not in ([], [before]), 20)  # type: ignore[misc]
    session.invalidate()
    outbox.write(session, DOCUMENT_INDEXING.name, [str(uuid4()), []])
    session.commit()
    eventually(lambda: len(rows.in_broker()) == 1, 20)


def test_a_broker_that_comes_back_empty_gets_everything_again(rows: Outbox, tmp_path: Path) -> None:
    rows.fill(uuid4(), 5)
    with EmbeddedValkey(tmp_path / "valkey", persist=False) as valkey:
        connect = partial(rows.celery.connection_for_write, valkey.url)
        thread = RelayThread(
            Relay(rows.engine, rows.celery, QUEUES, Bounds(), connect), rows.engine, 1
        )
        thread.start()
        try:
            with Redis.from_url(valkey.url) as client:
                eventually(lambda: client.exists("dataset") == 1, 20)
            valkey.kill()
            rows.fill(uuid4(), 1)
            valkey.restart(keep_data=False)
            with rows.celery.connection_for_read(valkey.url) as connection:
                eventually(lambda: len(message_ids(connection, "dataset")) == 6, 30)
        finally:
            thread.stop()


def test_a_failing_chore_is_repeated_and_stops_no_message(rows: Outbox, run_thread: Any) -> None:
    calls: list[float] = []

    def chore() -> None:
        calls.append(time.monotonic())
        if len(calls) == 1:
            raise SQLAlchemyError("away")

    rows.fill(uuid4(), 1)
    thread = run_thread(30, (float("inf"), chore))
    eventually(lambda: len(rows.in_broker()) == 1, 20)
    eventually(lambda: bool(calls), 20)

    def called_again() -> bool:
        thread.wake()
        return len(calls) == 2

    eventually(called_again, 20)
