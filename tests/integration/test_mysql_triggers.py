"""What MariaDB's and MySQL's triggers promise; runs where ``TEST_MYSQL_URL`` names a server."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import IntegrityError

from shared.settings.base import load_group
from shared.settings.database import DatabaseSettings

TENANT, DATASET, DOCUMENT, FILE = (uuid4().hex for _ in range(4))
CONTENT = {
    "document_segments": {
        "tenant_id": TENANT,
        "dataset_id": DATASET,
        "version": 1,
        "position": 1,
        "content": "text",
        "word_count": 1,
        "tokens": 1,
        "index_node_hash": "0",
    },
    "child_chunks": {
        "tenant_id": TENANT,
        "dataset_id": DATASET,
        "segment_id": TENANT,
        "version": 1,
        "position": 1,
        "content": "text",
        "word_count": 1,
        "tokens": 1,
        "index_node_hash": "0",
    },
    "segment_keywords": {
        "dataset_id": DATASET,
        "version": 1,
        "words": "[1]",
        "frequencies": "[1]",
        "length": 1,
    },
}


@pytest.fixture
def engine(mysql_uri: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setenv("SQLALCHEMY_DATABASE_URI", mysql_uri)
    settings = load_group(DatabaseSettings, ())
    made = create_engine(settings.url, **settings.engine_options)
    yield made
    made.dispose()


def insert(connection: Connection, table: str, **values: Any) -> None:
    names, marks = ", ".join(values), ", ".join(["%s"] * len(values))
    connection.exec_driver_sql(
        f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(values.values())
    )


@pytest.fixture
def filled(engine: Engine) -> Engine:
    with engine.begin() as connection:
        insert(connection, "tenants", id=TENANT, name="acme")
        insert(
            connection,
            "datasets",
            id=DATASET,
            tenant_id=TENANT,
            name="manuals",
            embedding_provider="p",
            embedding_model="m",
            retrieval_model="{}",
        )
        insert(
            connection,
            "upload_files",
            id=FILE,
            tenant_id=TENANT,
            storage_key="a/file",
            name="n",
            size_bytes=1,
            mime_type="text/plain",
            sha256="0",
        )
        insert(
            connection,
            "documents",
            id=DOCUMENT,
            tenant_id=TENANT,
            dataset_id=DATASET,
            position=1,
            name="d",
            data_source="upload_file",
            source_key="d",
            upload_file_id=FILE,
            doc_form="text_model",
            doc_metadata="{}",
        )
        insert(
            connection,
            "segment_imports",
            id=uuid4().hex,
            tenant_id=TENANT,
            dataset_id=DATASET,
            document_id=DOCUMENT,
            version=1,
            upload_file_id=FILE,
        )
        insert(
            connection,
            "trace_deliveries",
            id=uuid4().hex,
            tenant_id=TENANT,
            trace_id="t",
            name="n",
            kind="k",
            storage_key="a/trace",
            payload_bytes=1,
            span_count=1,
        )
    return engine


def run(engine: Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)


def noted(engine: Engine) -> list[tuple[str, str | None]]:
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT kind, coalesce(storage_key, document_id, upload_file_id, dataset_id), id "
            "FROM removals"
        ).fetchall()
    assert all(len(row[2]) == 32 for row in rows)
    return sorted((row[0], row[1]) for row in rows)


OF_DOCUMENT = [("document", DOCUMENT), ("upload_file", FILE)]
OF_DATASET = [("dataset", DATASET), *OF_DOCUMENT]


@pytest.mark.parametrize(
    ("deleted", "notes"),
    [
        ("documents", OF_DOCUMENT),
        ("datasets", OF_DATASET),
        ("upload_files", [("stored_file", "a/file")]),
        ("trace_deliveries", [("stored_file", "a/trace")]),
        ("segment_imports", [("upload_file", FILE)]),
        ("tenants", [*OF_DATASET, ("stored_file", "a/file"), ("stored_file", "a/trace")]),
    ],
)
def test_what_goes_is_noted_also_what_goes_with_its_parent(
    filled: Engine, deleted: str, notes: list[tuple[str, str]]
) -> None:
    run(filled, f"DELETE FROM {deleted}")
    assert noted(filled) == sorted(notes)
    with filled.connect() as connection:
        left = connection.exec_driver_sql(f"SELECT count(*) FROM {deleted}").scalar()
    assert left == 0


def test_nothing_is_noted_of_what_comes_back(filled: Engine) -> None:
    with filled.connect() as connection, connection.begin() as transaction:
        connection.exec_driver_sql("DELETE FROM tenants")
        transaction.rollback()
    assert noted(filled) == []


def test_a_replaced_file_is_noted(filled: Engine) -> None:
    run(filled, "UPDATE documents SET name = 'other'")
    assert noted(filled) == []
    run(filled, "UPDATE documents SET upload_file_id = NULL")
    assert noted(filled) == [("upload_file", FILE)]


@pytest.mark.parametrize(
    ("status", "version"), [("waiting", 2), ("indexing", 2), ("completed", 1), ("paused", 1)]
)
def test_work_begins_in_a_version_that_search_does_not_see(
    filled: Engine, status: str, version: int
) -> None:
    run(filled, "UPDATE documents SET active_version = 1, indexing_status = 'error'")
    run(filled, f"UPDATE documents SET indexing_status = '{status}'")
    with filled.connect() as connection:
        found = connection.exec_driver_sql("SELECT index_version FROM documents").scalar()
    assert found == version


@pytest.mark.parametrize("table", list(CONTENT))
def test_nothing_is_written_of_a_document_that_is_not_there(filled: Engine, table: str) -> None:
    key = "segment_id" if table == "segment_keywords" else "id"
    with filled.begin() as connection:
        insert(connection, table, document_id=DOCUMENT, **{key: uuid4().hex}, **CONTENT[table])
    with pytest.raises(IntegrityError, match="there is no document"), filled.begin() as connection:
        insert(connection, table, document_id=FILE, **{key: uuid4().hex}, **CONTENT[table])


@pytest.mark.parametrize(
    ("table", "values"),
    [
        ("accounts", {"name": "n", "email": "A@x", "id": uuid4().hex}),
        (
            "trace_configs",
            {"tenant_id": TENANT, "provider": "p", "options": "{}", "id": uuid4().hex},
        ),
        (
            "dataset_index_builds",
            {
                "dataset_id": DATASET,
                "action": "add",
                "generation": 1,
                "embedding_provider": "p",
                "embedding_model": "m",
                "id": uuid4().hex,
            },
        ),
    ],
)
def test_the_keys_that_postgresql_has_and_these_have_not(
    filled: Engine, table: str, values: dict[str, Any]
) -> None:
    """On lower(email), on NULLs that are not distinct, on running builds only."""
    changed = {"email": "a@X", "generation": 2}
    again = {**values, "id": uuid4().hex} | {
        name: value for name, value in changed.items() if name in values
    }
    with filled.begin() as connection:
        insert(connection, table, **values)
    with pytest.raises(IntegrityError, match="1062"), filled.begin() as connection:
        insert(connection, table, **again)
    if table == "dataset_index_builds":
        run(filled, "UPDATE dataset_index_builds SET status = 'completed'")
        with filled.begin() as connection:
            insert(connection, table, **again)


def test_two_long_sources_that_begin_alike_are_two(filled: Engine) -> None:
    run(filled, "UPDATE documents SET source_key = REPEAT('x', 1024)")
    with filled.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO documents (id, tenant_id, dataset_id, position, name, data_source, "
            "source_key, doc_form, doc_metadata) "
            "SELECT REVERSE(id), tenant_id, dataset_id, 2, name, data_source, "
            "CONCAT(REPEAT('x', 1023), 'y'), doc_form, doc_metadata FROM documents"
        )
    with pytest.raises(IntegrityError, match="1062"):
        run(filled, "UPDATE documents SET source_key = 'same'")
