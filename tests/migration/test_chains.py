"""Both chains of migrations end in the same tables: what can be told without a server."""

import re

import flask_migrate
import pytest
from alembic.script import ScriptDirectory

from shared.app_factory import create_migrations_app
from shared.extensions.migrate import MIGRATIONS, versions
from shared.models import Base
from shared.models.task_result import RESULT_METADATA

#: The one table of pgvector.
LEFT_OUT = {"segment_vectors"}
_TABLE = re.compile(
    r"^CREATE TABLE (?:IF NOT EXISTS )?(\w+) \(\n(.*?)\n\)", re.MULTILINE | re.DOTALL
)
_COLUMN = re.compile(r"^    (\w+) [A-Z]+[( ,]?", re.MULTILINE)
_ADDED = re.compile(r"ALTER TABLE (\w+) ADD (?:COLUMN )?(?:IF NOT EXISTS )?(\w+) ")
_NO_COLUMN = {"PRIMARY", "UNIQUE", "KEY", "CONSTRAINT", "CHECK"}


def revisions(dialect: str) -> list[str]:
    script = ScriptDirectory(str(MIGRATIONS), version_locations=[str(versions(dialect))])
    return [one.revision for one in script.walk_revisions()][::-1]


def test_every_migration_since_has_its_twin() -> None:
    """The twin of a migration that MariaDB has no need of does nothing, and says why."""
    first, *_ = theirs = revisions("mysql")
    ours = revisions("postgresql")

    assert theirs == ours[ours.index(first) :]


def test_the_tables_and_columns_are_the_models(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SQLALCHEMY_DATABASE_URI", "mariadb://nobody@127.0.0.1:1/none")
    monkeypatch.setenv("VECTOR_STORE", "qdrant")
    with create_migrations_app().app_context():
        flask_migrate.upgrade(sql=True)
    written = capsys.readouterr().out

    found = {
        name: {one for one in _COLUMN.findall(body) if one not in _NO_COLUMN}
        for name, body in _TABLE.findall(written)
    }
    for table, column in _ADDED.findall(written):
        found[table].add(column)
    wanted = {
        table.name: {column.name for column in table.columns}
        for metadata in (Base.metadata, RESULT_METADATA)
        for table in metadata.tables.values()
        if table.name not in LEFT_OUT
    }
    missing = {name: columns - found.get(name, set()) for name, columns in wanted.items()}
    assert {name: columns for name, columns in missing.items() if columns} == {}
    assert found.keys() - wanted.keys() <= {"alembic_version", "named_locks"}
