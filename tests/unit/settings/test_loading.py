"""Settings: where values come from, and what a wrong one looks like."""

from pathlib import Path

import pytest

from shared.errors import ConfigurationError
from shared.settings import load_settings


def refusal(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("REDIS_PORT", "many", "integer"),
        ("DB_PORT", "70000", "65535"),
        ("LOG_LEVEL", "LOUD", "'WARNING'"),
        ("DEBUG", "perhaps", "boolean"),
        ("INDEXING_GUARD_SECONDS", "1", "greater than or equal to 5"),
        ("REDIS_SENTINELS", "a:26379/0", "host:port,host:port"),
        ("REDIS_SSL_CERT_REQS", "maybe", "'required'"),
    ],
)
def test_a_wrong_value_is_one_line_with_variable_value_and_wish(
    name: str, value: str, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = refusal(name, value, monkeypatch)

    assert message.startswith(f"{name}: ")
    assert f"(got '{value}')" in message
    assert wanted in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SQLALCHEMY_DATABASE_URI", "postgresql://u:hunter2@host:port/name"),
        ("SQLALCHEMY_DATABASE_URI", "mysql+mysqldb://u:hunter2@host/name"),
        ("SQLALCHEMY_DATABASE_URI", "postgresql+psycopg://u:hunter2@host/name"),
        ("SQLALCHEMY_DATABASE_URI", "sqlite:///hunter2"),
        ("REDIS_URL", "http://:hunter2@host"),
        ("CELERY_BROKER_URL", "hunter2"),
    ],
)
def test_a_wrong_secret_is_named_but_not_shown(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = refusal(name, value, monkeypatch)

    assert message.startswith(f"{name}: ")
    assert "hunter2" not in message
    assert "write " in message
    assert "\n" not in message


def test_a_sentinel_switch_without_sentinels_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    message = refusal("REDIS_USE_SENTINEL", "true", monkeypatch)

    assert message == "REDIS_USE_SENTINEL needs REDIS_SENTINELS: write host:port,host:port"


def test_a_file_that_is_no_text_is_one_line() -> None:
    Path(".env").write_bytes(b"DB_HOST=\xff\xfe\n")

    with pytest.raises(ConfigurationError, match=r"\.env: not UTF-8") as caught:
        load_settings()
    assert "\n" not in str(caught.value)


def test_the_environment_wins_over_env_over_the_stacks_file_over_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def host() -> str:
        return load_settings().database.db_host

    assert host() == "127.0.0.1"
    stack = Path(".rag-worker/stack.env")
    stack.parent.mkdir()
    stack.write_text("DB_HOST=stack\n")
    assert host() == "stack"
    Path(".env").write_text("DB_HOST=file\nUNKNOWN_VARIABLE=1\n")
    assert host() == "file"
    monkeypatch.setenv("DB_HOST", "environment")
    assert host() == "environment"
    monkeypatch.setenv("DB_HOST", "")
    assert host() == "file", "an empty variable is one that is not set"


def test_what_is_shown_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        "SECRET_KEY": "hunter2",
        "DB_PASSWORD": "hunter2",
        "SQLALCHEMY_DATABASE_URI": "postgresql://u:hunter2@h/n",
        "REDIS_URL": "redis://:hunter2@h",
        "REDIS_PASSWORD": "hunter2",
        "CELERY_BROKER_URL": "redis://:hunter2@h",
        "CELERY_BACKEND": "db+postgresql://u:p@ss/hunter2@h/name",
        "STORAGE_URL": "s3://bucket/prefix?key=AKIA&secret=hunter2",
        "FLOWER_BASIC_AUTH": "admin:hunter2",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)

    shown = load_settings().shown()

    assert "hunter2" not in str(shown)
    assert "AKIA" not in str(shown)
    assert shown["CELERY_BACKEND"] == "db+postgresql://********@h/name"
    assert shown["STORAGE_URL"] == "s3://bucket/prefix?********"
    assert shown["SECRET_KEY"] == "********"
    assert shown["DB_USERNAME"] == "postgres"


def test_a_repr_of_the_settings_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "hunter2")
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://:hunter2@h")

    assert "hunter2" not in repr(load_settings())


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg2"])
def test_every_spelling_of_postgresql_means_psycopg2(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQLALCHEMY_DATABASE_URI", f"{scheme}://u:p%40ss@h:1/n?sslmode=require")

    settings = load_settings()

    assert settings.database.uri == "postgresql+psycopg2://u:p%40ss@h:1/n?sslmode=require"


def test_the_parts_make_a_uri_whatever_the_password_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "p@ss/w:rd#?%")

    url = load_settings().database.url

    assert url.password == "p@ss/w:rd#?%"
    assert url.host == "127.0.0.1"


def test_what_a_database_uri_says_itself_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "SQLALCHEMY_DATABASE_URI",
        "postgresql://h/n?connect_timeout=3&options=-csearch_path%3Drag",
    )

    arguments = load_settings().database.engine_options["connect_args"]

    assert "connect_timeout" not in arguments
    assert arguments["options"] == "-c timezone=UTC -c statement_timeout=600s -csearch_path=rag"
