"""The chain of MariaDB and MySQL; runs where ``TEST_MYSQL_URL`` names a server."""

import re
import subprocess
import sys
from collections.abc import Iterator

import flask_migrate
import pytest
from flask import Flask
from sqlalchemy import Engine, Table, inspect
from sqlalchemy.dialects import mysql

from shared.app_factory import create_migrations_app
from shared.models import Base, db
from shared.models.task_result import RESULT_METADATA
from worker.cli.database import upgrade_database

#: Only pgvector has rows there.
LEFT_OUT = {"segment_vectors"}
#: Columns of keys that PostgreSQL has no need of.
GENERATED = {
    ("accounts", "lower_email"),
    ("dataset_index_builds", "is_running"),
    ("documents", "source_key_digest"),
    ("trace_configs", "app_key"),
}
PROCESSES = 4

#: How the server names what the models' types compile to.
STORED_AS = {
    "json": "longtext",
    "bool": "tinyint(1)",
    "integer": "int",
    "float(53)": "double",
    "double precision": "double",
    "datetime": "datetime(6)",
    "blob": "longblob",
    "text": "longtext",
}


def expected() -> dict[str, Table]:
    known = {**Base.metadata.tables, **RESULT_METADATA.tables}
    return {name: table for name, table in known.items() if name not in LEFT_OUT}


@pytest.fixture
def app(empty_mysql_uri: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    monkeypatch.setenv("SQLALCHEMY_DATABASE_URI", empty_mysql_uri)
    monkeypatch.setenv("VECTOR_STORE", "qdrant")
    monkeypatch.setenv("REDIS_URL", redis_url)
    made = create_migrations_app()
    with made.app_context():
        yield made
        db.engine.dispose()


@pytest.fixture
def engine(app: Flask) -> Engine:
    return db.engine


def tables(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names()) - {"alembic_version"}


def test_up_makes_every_table_down_leaves_none_and_up_works_again(
    app: Flask, engine: Engine
) -> None:
    upgrade_database()
    assert tables(engine) >= set(expected())
    flask_migrate.downgrade(revision="base")
    assert tables(engine) == set()
    upgrade_database()
    assert tables(engine) >= set(expected())


def test_an_upgrade_that_died_goes_on(app: Flask, engine: Engine) -> None:
    upgrade_database()
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER documents_note_removed")
        connection.exec_driver_sql("DROP TABLE vector_points")
        connection.exec_driver_sql("DELETE FROM alembic_version")

    upgrade_database()

    assert tables(engine) >= set(expected())
    with engine.connect() as connection:
        found = connection.exec_driver_sql("SHOW TRIGGERS LIKE 'documents'").fetchall()
    assert "documents_note_removed" in {row[0] for row in found}


def test_the_migrations_make_what_the_models_say(app: Flask, engine: Engine) -> None:
    upgrade_database()
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT table_name, column_name, column_type, is_nullable, column_default "
            "FROM information_schema.columns WHERE table_schema = DATABASE()"
        ).fetchall()
    found = {(row[0], row[1]): (named(row[2].lower()), row[3] == "YES", row[4]) for row in rows}

    wanted = {
        (table.name, column.name): (stored(column.type), bool(column.nullable))
        for table in expected().values()
        for column in table.columns
    }
    names = {*expected(), *LEFT_OUT}
    differences = {
        place: (found.get(place, (None, None))[:2], wanted.get(place))
        for place in {*(key for key in found if key[0] in names), *wanted} - GENERATED
        if found.get(place, (None, None))[:2] != wanted.get(place)
    }
    without = [
        (table.name, column.name)
        for table in expected().values()
        for column in table.columns
        if column.server_default is not None
        and column.name != "sequence"
        and found[table.name, column.name][2] in {None, "NULL"}
    ]
    assert differences == {}
    assert without == [], "defaults of the database that are missing"


def named(kind: str) -> str:
    """A column's type as both servers could name it."""
    if kind == "json":
        return "longtext"
    return kind if kind == "tinyint(1)" else re.sub(r"^(\w*int)\(\d+\)", r"\1", kind)


def stored(kind) -> str:
    name = kind.compile(dialect=mysql.dialect()).lower()
    if name.startswith("numeric"):
        return name.replace("numeric", "decimal").replace(", ", ",")
    return STORED_AS.get(name, name)


def test_keys_are_those_of_the_models(app: Flask, engine: Engine) -> None:
    upgrade_database()
    found = inspect(engine)
    problems = []
    for table in expected().values():
        primary = found.get_pk_constraint(table.name)["constrained_columns"]
        if primary != [column.name for column in table.primary_key.columns]:
            problems.append((table.name, "primary key", primary))
        foreign = {
            (*key["constrained_columns"], key["referred_table"], key["options"].get("ondelete"))
            for key in found.get_foreign_keys(table.name)
        }
        wanted = {
            (key.parent.name, key.column.table.name, key.ondelete) for key in table.foreign_keys
        }
        if foreign != wanted:
            problems.append((table.name, "foreign keys", foreign ^ wanted))
        names = {index["name"] for index in found.get_indexes(table.name) if index["unique"]}
        unique = {index.name for index in table.indexes if index.unique} | {
            one.name
            for one in table.constraints
            if one.__visit_name__ == "unique_constraint" and one.name is not None
        }
        if {str(name) for name in unique} - names:
            problems.append((table.name, "unique", unique - names))
    assert problems == []


def test_every_foreign_key_leads_an_index(app: Flask, engine: Engine) -> None:
    """The server makes one of its own where there is none: then the schema forgot it."""
    upgrade_database()
    found = inspect(engine)
    made = [
        (table, index["name"])
        for table in expected()
        for index in found.get_indexes(table)
        if str(index["name"]).startswith("fk_")
    ]
    assert made == []


def test_processes_at_once_migrate_once(app: Flask, empty_mysql_uri: str) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", "from worker.cli import main; main()", "db", "upgrade"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(PROCESSES)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * PROCESSES, outputs
    assert sum(output.count("applied migration 0030") for output in outputs) == 1, outputs
