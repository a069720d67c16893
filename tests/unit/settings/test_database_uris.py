"""A database's URI means one server, to SQLAlchemy's engine and to a bare connection."""

import pytest
from psycopg2.extensions import make_dsn, parse_dsn
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2

from shared.settings.base import load_group
from shared.settings.database import DatabaseSettings

URIS = [
    "postgresql://u:p@db.example.com/rag",
    "postgres://u:p%40ss%2F@10.0.0.7:6543/rag?sslmode=require&application_name=other",
    "postgresql+psycopg2://u@localhost/rag?options=-c%20search_path%3Drag",
    "postgresql://u:p%40ss!;wörd@db/rag",
    "postgresql://u:p@[::1]:5433/rag",
    "postgresql://u:p@/rag?host=/var/run/postgresql",
]


def both(settings: DatabaseSettings) -> tuple[dict[str, str], dict[str, str]]:
    """What libpq is told by the engine, and by a bare connection."""
    dialect = PGDialect_psycopg2()  # type: ignore[no-untyped-call]
    positional, named = dialect.create_connect_args(settings.url)  # type: ignore[no-untyped-call]
    engine = {**named, **settings.engine_options["connect_args"]}
    return (
        parse_dsn(make_dsn(*positional, **engine)),
        parse_dsn(make_dsn(**settings.connect_arguments)),
    )


@pytest.mark.parametrize("uri", URIS)
def test_a_bare_connection_goes_where_the_engine_goes(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQLALCHEMY_DATABASE_URI", uri)
    engine, bare = both(load_group(DatabaseSettings, ()))
    assert bare == engine


@pytest.mark.parametrize("host", ["db.example.com", "::1", "/var/run/postgresql"])
def test_so_it_does_by_the_parts(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_HOST", host)
    monkeypatch.setenv("DB_PASSWORD", "p@ss/wörd")
    engine, bare = both(load_group(DatabaseSettings, ()))
    assert bare == engine
