"""The application factory: order, switches, several apps in one process, forks."""

import logging
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
from flask import Flask
from sqlalchemy import text

from shared import app_factory
from shared.app_factory import create_app, create_migrations_app
from shared.errors import ConfigurationError
from shared.extensions import MIGRATION_ORDER, ORDER
from shared.models import db
from shared.settings import load_settings


@pytest.fixture
def migrations_app(environment: dict[str, str]):
    app = create_migrations_app()
    yield app
    with app.app_context():
        db.engine.dispose()


def test_debug_logs_the_time_of_each_extension_in_order_and_of_all(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DEBUG", "true")
    with caplog.at_level(logging.INFO, "shared.app_factory"):
        create_app().extensions["redis"].close()

    lines = [record.message for record in caplog.records if record.name == "shared.app_factory"]
    assert [line.split()[0] for line in lines] == [*(module for module, _ in ORDER), "all"]
    assert all(line.endswith((" ms", " is not enabled")) for line in lines)


def test_without_debug_it_is_quiet(
    environment: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "shared.app_factory"):
        create_app().extensions["redis"].close()

    assert [record for record in caplog.records if record.name == "shared.app_factory"] == []


def test_an_extension_that_is_not_enabled_is_passed_over(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    started: list[str] = []
    for name, enabled in (("switched_on", True), ("switched_off", False)):
        module = ModuleType(name)
        module.is_enabled = lambda settings, enabled=enabled: enabled and settings.application.debug
        module.init_app = lambda app, name=name: started.append(name)
        monkeypatch.setitem(sys.modules, name, module)
    rows = (("switched_off", "for the test"), ("switched_on", "for the test"))
    monkeypatch.setattr(app_factory, "ORDER", rows)
    monkeypatch.setenv("DEBUG", "true")

    with caplog.at_level(logging.INFO, "shared.app_factory"):
        create_app()

    assert started == ["switched_on"]
    assert "switched_off is not enabled" in caplog.text


def test_the_migrations_app_needs_neither_redis_nor_celery(
    database_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQLALCHEMY_DATABASE_URI", database_uri)
    monkeypatch.setenv("REDIS_URL", "redis://nowhere.invalid")
    monkeypatch.setenv("STORAGE_URL", "nosuchprotocol://x")

    app = create_migrations_app()

    assert len(MIGRATION_ORDER) == 3
    assert {"redis", "storage", "celery"}.isdisjoint(app.extensions)
    with app.app_context():
        assert db.session.scalar(text("SELECT 1")) == 1
        db.engine.dispose()


def test_two_apps_with_two_databases_live_in_one_process(
    environment: dict[str, str], empty_database_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = create_app()
    monkeypatch.setenv("SQLALCHEMY_DATABASE_URI", empty_database_uri)
    second = create_app()

    def database(app: Flask) -> str:
        with app.app_context():
            return str(db.session.scalar(text("SELECT current_database()")))

    assert database(first) != database(second)
    assert database(second) == load_settings().database.url.database
    assert first.extensions["celery"] is not second.extensions["celery"]
    assert first.extensions["celery"].flask_app is first
    for app in (first, second):
        with app.app_context():
            db.engine.dispose()
        app.extensions["redis"].close()


def test_a_context_leaves_nothing_of_its_transaction_to_the_next(migrations_app: Flask) -> None:
    with migrations_app.app_context():
        db.session.execute(text("CREATE TABLE left_behind (id int)"))
        assert db.engine.pool.checkedout() == 1
    with migrations_app.app_context():
        assert db.engine.pool.checkedout() == 0
        assert not db.session().in_transaction()
        assert db.session.scalar(text("SELECT to_regclass('left_behind')")) is None


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_opens_its_own_connection(migrations_app: Flask, tmp_path: Path) -> None:
    backend = text("SELECT pg_backend_pid()")
    with migrations_app.app_context():
        parents = db.session.scalar(backend)
        db.session.commit()
        child = os.fork()
        if child == 0:
            try:
                with migrations_app.app_context():
                    (tmp_path / "pid").write_text(str(db.session.scalar(backend)))
            finally:
                os._exit(0)
        os.waitpid(child, 0)

        assert (tmp_path / "pid").read_text().isdecimal()
        assert int((tmp_path / "pid").read_text()) != parents
        assert db.session.scalar(backend) == parents, "the child did not close the parent's"


def test_the_secret_key_comes_from_the_environment_or_is_absent(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert create_migrations_app().config["SECRET_KEY"] is None
    monkeypatch.setenv("SECRET_KEY", "a key")
    assert create_migrations_app().config["SECRET_KEY"] == "a key"


@pytest.mark.parametrize("url", ["nosuchprotocol://x:hunter2@h", "gs://key:hunter2@bucket"])
def test_a_storage_nobody_can_open_is_one_line_without_its_secret(
    environment: dict[str, str], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_URL", url)

    with pytest.raises(ConfigurationError, match="STORAGE_URL: ") as caught:
        create_app()

    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)
