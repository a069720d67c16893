"""Migrations: up, down, up again; equal to the models; once however many start them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import flask_migrate
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from flask import Flask
from redis import Redis
from sqlalchemy import Engine, create_engine, inspect, text

from shared.app_factory import create_migrations_app
from shared.models import Base, db
from shared.models.task_result import RESULT_METADATA
from tests.fixtures.mysql_server import runs_on_mysql
from tests.fixtures.waiting import eventually
from worker.cli.database import LOCK_NAME, upgrade_database

pytestmark = pytest.mark.skipif(
    runs_on_mysql(), reason="PostgreSQL's chain; test_mysql_migrations has the other"
)

PROCESSES = 10
#: Celery says Integer; ours are wider on purpose.
WIDENED = {("celery_taskmeta", "id"), ("celery_tasksetmeta", "id")}


@pytest.fixture
def engine(empty_database_uri: str) -> Iterator[Engine]:
    made = create_engine(empty_database_uri)
    yield made
    made.dispose()


@pytest.fixture
def app(empty_database_uri: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    monkeypatch.setenv("SQLALCHEMY_DATABASE_URI", empty_database_uri)
    made = create_migrations_app()
    with made.app_context():
        yield made
        db.engine.dispose()


def start_upgrade(uri: str, redis_url: str, folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", "from worker.cli import main; main()", "db", "upgrade"],
        env={**os.environ, "SQLALCHEMY_DATABASE_URI": uri, "REDIS_URL": redis_url},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def tables(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names()) - {"alembic_version"}


def test_up_makes_every_table_down_leaves_none_and_up_works_again(
    app: Flask, engine: Engine
) -> None:
    wanted = {*Base.metadata.tables, *RESULT_METADATA.tables}

    flask_migrate.upgrade()
    assert tables(engine) == wanted
    flask_migrate.downgrade(revision="base")
    assert tables(engine) == set()
    assert inspect(engine).get_sequence_names() == []
    flask_migrate.upgrade()
    assert tables(engine) == wanted


def test_the_migrations_make_what_the_models_say(app: Flask, engine: Engine) -> None:
    flask_migrate.upgrade()

    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        differences = [
            difference
            for found in compare_metadata(context, [Base.metadata, RESULT_METADATA])
            for difference in (found if isinstance(found, list) else [found])
            if not (difference[0] == "modify_type" and difference[2:4] in WIDENED)
        ]

    assert differences == []


def test_every_foreign_key_leads_an_index(app: Flask, engine: Engine) -> None:
    """Deleting a row looks for those that point at it."""
    flask_migrate.upgrade()
    found = inspect(engine)

    unindexed = []
    for table in Base.metadata.tables:
        leading = {index["column_names"][0] for index in found.get_indexes(table)}
        leading |= {unique["column_names"][0] for unique in found.get_unique_constraints(table)}
        leading |= set(found.get_pk_constraint(table)["constrained_columns"][:1])
        keys = {key["constrained_columns"][0] for key in found.get_foreign_keys(table)}
        unindexed += [(table, column) for column in keys - leading]

    assert unindexed == []


def test_what_a_migration_sets_does_not_stay_in_the_pool(app: Flask, redis_url: str) -> None:
    flask_migrate.upgrade()

    with db.engine.connect() as connection:
        assert connection.scalar(text("SHOW lock_timeout")) == "0"
        held = connection.scalar(text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"))
    assert held == 0


def test_ten_processes_at_once_migrate_once(
    empty_database_uri: str, engine: Engine, redis_url: str, tmp_path: Path
) -> None:
    processes = [start_upgrade(empty_database_uri, redis_url, tmp_path) for _ in range(PROCESSES)]

    outputs = [process.communicate(timeout=300)[0] for process in processes]

    assert [process.returncode for process in processes] == [0] * PROCESSES, outputs
    assert sum(output.count("applied migration 0001") for output in outputs) == 1, outputs
    assert tables(engine) >= set(Base.metadata.tables)


def test_without_redis_the_databases_lock_keeps_them_apart(
    empty_database_uri: str, engine: Engine, tmp_path: Path
) -> None:
    lock = {"lock": int.from_bytes(b"rag-wkr")}
    waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    nobody = "redis://127.0.0.1:1"
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as holder:
        holder.execute(text("SELECT pg_advisory_lock(:lock)"), lock)
        processes = [start_upgrade(empty_database_uri, nobody, tmp_path) for _ in range(2)]
        eventually(lambda: holder.scalar(waiting) == 2, 60)
        assert tables(engine) == set(), "both wait for whoever has the lock"
        holder.execute(text("SELECT pg_advisory_unlock(:lock)"), lock)
        outputs = [process.communicate(timeout=300)[0] for process in processes]

    assert [process.returncode for process in processes] == [0, 0], outputs
    assert sum(output.count("applied migration 0001") for output in outputs) == 1, outputs
    assert tables(engine) >= set(Base.metadata.tables)
    for output in outputs:
        said = [line for line in output.splitlines() if "applied migration" not in line]
        assert len(said) == 2, output
        assert said[0].startswith("rag-worker: no Redis for the migration lock")
        assert said[1].startswith("the tables are at revision ")


def test_the_lock_in_redis_is_given_back_also_after_a_failure(
    app: Flask, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)
    app.extensions["settings"] = create_migrations_app().extensions["settings"]

    with pytest.raises(SystemExit):
        upgrade_database("no such revision")
    with Redis.from_url(redis_url) as redis:
        assert not redis.exists(LOCK_NAME)
    upgrade_database()


def test_sql_is_written_without_touching_the_database(
    app: Flask, engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    flask_migrate.upgrade(sql=True)

    assert "CREATE TABLE documents" in capsys.readouterr().out
    assert tables(engine) == set()
