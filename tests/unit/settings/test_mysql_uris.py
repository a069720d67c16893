"""MariaDB and MySQL: one server to the engine and to a bare connection, and its refusals."""

import sys

import pytest

from shared.errors import ConfigurationError
from shared.settings import load_settings
from shared.settings.base import load_group
from shared.settings.database import DatabaseSettings


@pytest.mark.parametrize(
    ("written", "driver"),
    [
        ("mysql", "mysql+pymysql"),
        ("mysql+pymysql", "mysql+pymysql"),
        ("mariadb", "mariadb+pymysql"),
        ("mariadb+pymysql", "mariadb+pymysql"),
    ],
)
def test_every_spelling_means_pymysql(
    written: str, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQLALCHEMY_DATABASE_URI", f"{written}://u:p%40ss@h:1/n")
    settings = load_group(DatabaseSettings, ())
    assert settings.is_mysql
    assert settings.uri == f"{driver}://u:p%40ss@h:1/n"


def test_the_parts_name_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_TYPE", "mariadb")
    monkeypatch.setenv("DB_PASSWORD", "p@ss/w:rd#?%")
    url = load_group(DatabaseSettings, ()).url
    assert (url.drivername, url.port, url.password) == ("mariadb+pymysql", 3306, "p@ss/w:rd#?%")
    monkeypatch.setenv("DB_PORT", "5432")
    assert load_group(DatabaseSettings, ()).url.port == 5432


def test_a_bare_connection_is_told_what_the_engine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "SQLALCHEMY_DATABASE_URI", "mysql://u:p@db/rag?ssl_ca=/etc/ca.pem&connect_timeout=3"
    )
    settings = load_group(DatabaseSettings, ())
    arguments = settings.connect_arguments
    assert (arguments["host"], arguments["user"], arguments["database"]) == ("db", "u", "rag")
    assert arguments["ssl"] == {"ca": "/etc/ca.pem"}
    assert arguments["connect_timeout"] == 3, "what the URI says itself wins"
    assert "connect_timeout" not in settings.engine_options["connect_args"]
    assert settings.engine_options["connect_args"].items() <= arguments.items()


def test_pgvector_is_refused_and_the_way_out_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQLALCHEMY_DATABASE_URI", "mariadb://u@h/n")
    with pytest.raises(ConfigurationError, match="VECTOR_STORE=qdrant and QDRANT_URL"):
        load_settings(())
    monkeypatch.setenv("VECTOR_STORE", "qdrant")
    load_settings(())


@pytest.mark.parametrize("missing", ["pymysql", "sqlglot"])
def test_a_missing_driver_names_its_extra(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setenv("SQLALCHEMY_DATABASE_URI", "mariadb://u@h/n")
    with pytest.raises(ConfigurationError, match=r"rag-worker\[mysql\]"):
        load_group(DatabaseSettings, ())
