"""Statements that commit by themselves, and what the next user of their connection gets."""

from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Connection, event, text
from sqlalchemy.orm import Session

from shared.models import db
from worker.delivery.single import single_statements


def test_each_statement_is_committed_and_the_next_user_has_a_transaction(app: Flask) -> None:
    count = text("SELECT count(*) FROM probe")
    with single_statements(db.engine) as connection:
        connection.execute(text("CREATE TABLE probe (id int)"))
        connection.execute(text("INSERT INTO probe VALUES (1)"))
        pid = connection.scalar(text("SELECT pg_backend_pid()"))
        assert not connection.scalar(text("SELECT now() <> statement_timestamp()"))
    with db.engine.connect() as connection:
        assert connection.scalar(text("SELECT pg_backend_pid()")) == pid, "the same connection"
        connection.execute(text("INSERT INTO probe VALUES (2)"))
        connection.rollback()
        assert connection.scalar(count) == 1
    with single_statements(db.engine) as connection:
        before = connection.scalar(text("SHOW synchronous_commit"))
        connection.execute(
            text("SET LOCAL synchronous_commit = local; INSERT INTO probe VALUES (3)")
        )
        assert connection.scalar(text("SHOW synchronous_commit")) == before != "local"
    with db.engine.begin() as connection:
        assert connection.scalar(count) == 2


def test_who_was_interrupted_leaves_nobody_without_a_transaction(app: Flask) -> None:
    with db.engine.connect() as connection:
        pid = connection.scalar(text("SELECT pg_backend_pid()"))
        connection.rollback()
        driver: Any = connection.connection.dbapi_connection
        driver.autocommit = True  # and nothing after it was run

    with db.engine.connect() as connection:
        assert connection.scalar(text("SELECT pg_backend_pid()")) == pid, "the same connection"
        connection.execute(text("CREATE TABLE probe (id int)"))
        connection.rollback()
        assert connection.scalar(text("SELECT to_regclass('probe')")) is None


def test_who_was_interrupted_at_the_commit_leaves_nothing_to_the_next_user(app: Flask) -> None:
    with db.engine.begin() as connection:
        connection.execute(text("CREATE TABLE probe (id int)"))
        pid = connection.scalar(text("SELECT pg_backend_pid()"))

    def interrupt(_: Connection) -> None:
        raise KeyboardInterrupt

    event.listen(db.engine, "commit", interrupt)
    try:
        with Session(db.engine) as session:
            session.execute(text("INSERT INTO probe VALUES (1)"))
            with pytest.raises(KeyboardInterrupt):
                session.commit()
    finally:
        event.remove(db.engine, "commit", interrupt)

    with single_statements(db.engine) as connection:
        assert connection.scalar(text("SELECT pg_backend_pid()")) == pid, "the same connection"
        assert connection.scalar(text("SELECT count(*) FROM probe")) == 0
    with db.engine.begin() as connection:
        assert connection.scalar(text("SELECT count(*) FROM probe")) == 0
