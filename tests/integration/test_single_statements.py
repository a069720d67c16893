"""Statements that commit by themselves, and what the next user of their connection gets."""

from flask import Flask
from sqlalchemy import create_engine, text

from shared.models import db
from worker.delivery.single import single_statements


def test_each_statement_is_committed_and_the_next_user_has_a_transaction(app: Flask) -> None:
    engine = create_engine(db.engine.url, pool_size=1, max_overflow=0)
    count = text("SELECT count(*) FROM probe")
    try:
        with single_statements(engine) as connection:
            connection.execute(text("CREATE TABLE probe (id int)"))
            connection.execute(text("INSERT INTO probe VALUES (1)"))
            pid = connection.scalar(text("SELECT pg_backend_pid()"))
            assert not connection.scalar(text("SELECT now() <> statement_timestamp()"))
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT pg_backend_pid()")) == pid, "the same connection"
            connection.execute(text("INSERT INTO probe VALUES (2)"))
            connection.rollback()
            assert connection.scalar(count) == 1
        with single_statements(engine) as connection:
            local = text("SET LOCAL synchronous_commit = off; INSERT INTO probe VALUES (3)")
            connection.execute(local)
            assert connection.scalar(text("SHOW synchronous_commit")) == "on"
        with engine.begin() as connection:
            assert connection.scalar(count) == 2
    finally:
        engine.dispose()
