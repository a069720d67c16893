"""Statements past SQLAlchemy's rows: the same rows, the same errors, no lost connection kept."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from flask import Flask
from psycopg2.extensions import set_wait_callback
from sqlalchemy import event, text
from sqlalchemy.exc import DataError, OperationalError

from shared.models import db
from worker.stores.driver_reading import read_rows

ROWS = "SELECT number, 'lamp ' || number FROM generate_series(1, %(most)s) AS number"
BACKEND = "SELECT pg_backend_pid()"


@pytest.fixture(autouse=True)
def application(app: Flask) -> None:
    """Whose engine it is."""


@contextmanager
def watched() -> Iterator[list[str]]:
    seen: list[str] = []

    def note(_c: object, _cursor: object, statement: str, *_: object) -> None:
        seen.append(statement)

    event.listen(db.engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(db.engine, "before_cursor_execute", note)


def test_rows_are_the_same_and_who_watches_statements_sees_them() -> None:
    alone = read_rows(db.engine, ROWS, {"most": 2})
    with watched() as seen:
        assert read_rows(db.engine, ROWS, {"most": 2}) == alone
    assert alone == [(1, "lamp 1"), (2, "lamp 2")]
    assert seen == [ROWS]


def test_the_next_user_of_the_connection_has_transactions() -> None:
    ((backend,),) = read_rows(db.engine, BACKEND, {})
    with db.engine.connect() as connection:
        assert connection.scalar(text(BACKEND)) == backend
        connection.execute(text("CREATE TABLE left_behind ()"))
        connection.rollback()
    assert read_rows(db.engine, "SELECT to_regclass('left_behind')", {}) == [(None,)]


def test_an_error_is_sqlalchemys_and_the_connection_stays() -> None:
    ((backend,),) = read_rows(db.engine, BACKEND, {})
    with pytest.raises(DataError, match="division by zero") as raised:
        read_rows(db.engine, "SELECT 1 / %(number)s", {"number": 0})
    assert not raised.value.connection_invalidated
    assert read_rows(db.engine, BACKEND, {}) == [(backend,)]


def test_a_lost_connection_is_an_outage_and_the_next_statement_works() -> None:
    ((backend,),) = read_rows(db.engine, BACKEND, {})
    with pytest.raises(OperationalError) as raised:
        read_rows(db.engine, "SELECT pg_terminate_backend(pg_backend_pid())", {})
    assert raised.value.connection_invalidated
    assert read_rows(db.engine, BACKEND, {}) != [(backend,)]


def test_what_is_interrupted_leaves_no_answer_for_the_next() -> None:
    class Interrupted(BaseException):
        """As a time limit is, in a greenlet."""

    def interrupt(_: object) -> None:
        raise Interrupted

    read_rows(db.engine, BACKEND, {})
    set_wait_callback(interrupt)
    try:
        with pytest.raises(Interrupted):
            read_rows(db.engine, ROWS, {"most": 2})
    finally:
        set_wait_callback(None)
    assert read_rows(db.engine, ROWS, {"most": 1}) == [(1, "lamp 1")]
