"""Results, locks, connections on MariaDB and MySQL; runs where ``TEST_MYSQL_URL`` names one."""

from collections.abc import Iterator
from threading import Event, Thread
from uuid import uuid4

import pytest
from celery import Celery
from celery.result import AsyncResult, GroupResult
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DataError, DBAPIError, OperationalError, ProgrammingError

from shared.queueing.engine import open_engine
from shared.queueing.locks import ended_when_frozen, hold, hold_if_free
from shared.queueing.result_backend import result_backend_settings
from shared.settings import load_settings
from shared.settings.base import load_group
from shared.settings.database import DatabaseSettings
from tests.fixtures.waiting import eventually
from worker.cli.failures import _server_failure
from worker.cli.probing import _ask_database
from worker.delivery.single import single_statements

UNUSED = text("SELECT 1 / 0")


@pytest.fixture
def uri(mysql_uri: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SQLALCHEMY_DATABASE_URI", mysql_uri)
    monkeypatch.setenv("VECTOR_STORE", "qdrant")
    return load_group(DatabaseSettings, ()).uri


@pytest.fixture
def engine(uri: str) -> Iterator[Engine]:
    settings = load_group(DatabaseSettings, ())
    made = open_engine(settings)
    yield made
    made.dispose()


@pytest.fixture
def celery(uri: str) -> Iterator[Celery]:
    made = Celery("probe")
    made.conf.update(result_backend_settings(uri))
    yield made
    made.backend.engine.dispose()


def is_ours(connection: Connection) -> bool:
    return hold_if_free(connection, UNUSED, {}, "relay/dataset")


def test_a_result_is_stored_and_read(celery: Celery) -> None:
    name = str(uuid4())
    celery.backend.store_result(name, {"ä": [1, None]}, "SUCCESS")
    found = AsyncResult(name, app=celery)
    assert found.result == {"ä": [1, None]}
    assert found.date_done.tzinfo is None or found.date_done.utcoffset().total_seconds() == 0


def test_a_success_is_not_overwritten_and_all_else_is(celery: Celery) -> None:
    name = str(uuid4())
    celery.backend.store_result(name, None, "STARTED")
    celery.backend.store_result(name, ValueError("x"), "FAILURE", traceback="nul \x00")
    assert AsyncResult(name, app=celery).state == "FAILURE"
    celery.backend.store_result(name, 1, "SUCCESS")
    celery.backend.store_result(name, None, "STARTED")
    celery.backend.store_result(name, ValueError("late"), "FAILURE")
    found = AsyncResult(name, app=celery)
    assert (found.state, found.result, found.traceback) == ("SUCCESS", 1, None)


def test_a_group_is_stored_and_read(celery: Celery) -> None:
    results = [AsyncResult(str(uuid4()), app=celery) for _ in range(2)]
    GroupResult(str(uuid4()), results, app=celery).save()
    saved = GroupResult("g", results, app=celery)
    saved.save()
    saved.save()
    assert GroupResult.restore("g", app=celery).results == results


def test_a_lock_has_one_holder_until_its_transaction_ends(engine: Engine) -> None:
    with engine.begin() as first:
        assert is_ours(first)
        with engine.begin() as second:
            # The first of all made the row, and nobody sees it yet.
            assert hold_if_free(second, UNUSED, {}, "relay/mail")
    with engine.begin() as first, engine.begin() as second:
        assert is_ours(first)
        assert not is_ours(second)
        first.rollback()
    with engine.begin() as first, engine.begin() as second:
        assert is_ours(second)
        assert not is_ours(first)


def test_a_lock_goes_with_the_connection_that_held_it(engine: Engine) -> None:
    with engine.begin() as connection:
        is_ours(connection)
    holder = engine.connect()
    assert is_ours(holder)
    number = holder.exec_driver_sql("SELECT CONNECTION_ID()").scalar()
    with engine.begin() as other:
        assert not is_ours(other)
    with engine.begin() as other:
        other.exec_driver_sql(f"KILL {number}")

    def is_free() -> bool:
        with engine.begin() as other:
            return is_ours(other)

    eventually(is_free)
    holder.invalidate()
    holder.close()


def test_who_needs_a_lock_waits_for_it(engine: Engine) -> None:
    has_begun, has_it = Event(), Event()

    def wait() -> None:
        with engine.begin() as connection:
            has_begun.set()
            hold(connection, UNUSED, {}, "b", "a")
            has_it.set()

    waiter = Thread(target=wait)
    with engine.begin() as connection:
        hold(connection, UNUSED, {}, "a", "c")
        waiter.start()
        has_begun.wait()
        with engine.begin() as other:
            eventually(
                lambda: other.exec_driver_sql(
                    "SELECT count(*) FROM information_schema.innodb_trx "
                    "WHERE trx_state = 'LOCK WAIT'"
                ).scalar()
            )
        assert not has_it.is_set()
    waiter.join()
    assert has_it.is_set()


def test_a_frozen_holder_is_ended(engine: Engine) -> None:
    with engine.begin() as connection:
        is_ours(connection)

    def is_free() -> bool:
        with engine.begin() as other:
            return is_ours(other)

    with engine.connect() as holder, ended_when_frozen(holder, 1):
        assert is_ours(holder)
        eventually(is_free)
        with pytest.raises(OperationalError):
            holder.exec_driver_sql("SELECT 1")
    with engine.begin() as connection, ended_when_frozen(connection, 1):
        pass
    with engine.begin() as connection:
        own = "idle_transaction_timeout" if connection.dialect.is_mariadb else "wait_timeout"
        left, usual = connection.exec_driver_sql(f"SELECT @@SESSION.{own}, @@GLOBAL.{own}").one()
    assert left == usual, "the connection's next user is not ended"


def test_single_statements_are_committed_one_by_one(engine: Engine) -> None:
    def count() -> object:
        with engine.connect() as other:
            return other.exec_driver_sql("SELECT count(*) FROM named_locks").scalar()

    with single_statements(engine) as connection:
        connection.exec_driver_sql("INSERT INTO named_locks (name) VALUES ('a')")
        assert count() == 1
        found = connection.exec_driver_sql("SELECT name FROM named_locks UNION SELECT 'b'")
        assert sorted(found.scalars()) == ["a", "b"]
        with pytest.raises(ProgrammingError):
            connection.exec_driver_sql("not a statement")
    assert count() == 1
    with engine.connect() as again:
        again.exec_driver_sql("INSERT INTO named_locks (name) VALUES ('b')")
    assert count() == 1, "who has the connection next has transactions"


def test_a_connection_behaves_as_postgresqls(engine: Engine) -> None:
    names = ["time_zone", "collation_connection", "autocommit"]
    with engine.connect() as connection:
        names += ["max_statement_time"] if connection.dialect.is_mariadb else []
        said = {name: connection.exec_driver_sql(f"SELECT @@{name}").scalar() for name in names}
        with pytest.raises(DataError, match="1366"):
            connection.exec_driver_sql(
                "INSERT INTO worker_nodes (name, host, pid, process_created, pool, concurrency, "
                "queues) VALUES ('n', 'h', 'not a number', 1, 'p', 1, '[]')"
            )
    assert said == {
        "time_zone": "+00:00",
        "collation_connection": "utf8mb4_bin",
        "autocommit": 0,
        **({"max_statement_time": 600} if "max_statement_time" in said else {}),
    }


def test_a_probe_asks_and_says_what_to_do(
    uri: str, empty_mysql_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _ask_database(load_settings(()))
    monkeypatch.setenv("SQLALCHEMY_DATABASE_URI", empty_mysql_uri)
    with pytest.raises(RuntimeError, match="rag-worker db upgrade"):
        _ask_database(load_settings(()))


@pytest.mark.parametrize(
    "statement", ["SELECT * FROM no_such_table", "SELECT no_such_column FROM outbox"]
)
def test_an_older_schema_is_named_with_its_way_out(engine: Engine, statement: str) -> None:
    with engine.connect() as connection, pytest.raises(DBAPIError) as raised:
        connection.exec_driver_sql(statement)
    assert "rag-worker db upgrade" in (_server_failure(raised.value) or "")
