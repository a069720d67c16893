"""Results in a pool of processes: sent before the task is acknowledged, confirmed afterwards."""

import os
import signal
from collections.abc import Iterator

import pytest
from celery import Celery
from celery.exceptions import BackendStoreError
from sqlalchemy import create_engine, make_url, select, text

from shared.models.task_result import TASK_RESULTS
from shared.queueing import result_backend
from shared.queueing.result_backend import PooledDatabaseBackend, result_backend_settings
from tests.fixtures.servers import new_database
from tests.fixtures.waiting import eventually


@pytest.fixture
def backend(database_uri: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[PooledDatabaseBackend]:
    """The backend as it is in a prefork child."""
    monkeypatch.setattr(result_backend._process, "runs_one_task_at_a_time", True)
    app = Celery("probe")
    app.conf.update(result_backend_settings(database_uri), result_backend_max_retries=2)
    made: PooledDatabaseBackend = app.backend
    yield made
    made.engine.dispose()


def stored(uri: str) -> set[str]:
    """The ids of the tasks whose results are in the table."""
    engine = create_engine(uri)
    with engine.connect() as connection:
        found = set(connection.scalars(select(TASK_RESULTS.c.task_id)))
    engine.dispose()
    return found


def on_the_server(uri: str, statement: str) -> None:
    """Run a statement beside the backend."""
    engine = create_engine(uri, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()


DISCONNECT = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


def test_every_row_arrives_and_the_last_one_without_another_after_it(
    backend: PooledDatabaseBackend, database_uri: str
) -> None:
    for number in range(50):
        backend.store_result(str(number), number, "SUCCESS")
    eventually(lambda: stored(database_uri) == {str(number) for number in range(50)}, 10)


def test_a_large_result_arrives(backend: PooledDatabaseBackend, database_uri: str) -> None:
    backend.store_result("large", "x" * 20_000_000, "SUCCESS")
    eventually(lambda: backend.get_task_meta("large", cache=False)["status"] == "SUCCESS", 20)
    assert len(backend.get_result("large")) == 20_000_000


def test_a_lost_connection_costs_no_result(
    backend: PooledDatabaseBackend, database_uri: str
) -> None:
    for number in range(30):
        backend.store_result(str(number), number, "SUCCESS")
        if number % 10 == 5:
            on_the_server(database_uri, DISCONNECT)
    eventually(lambda: stored(database_uri) == {str(number) for number in range(30)}, 10)


def test_a_process_that_is_killed_after_the_store_has_stored(
    backend: PooledDatabaseBackend, database_uri: str
) -> None:
    backend.store_result("parent", 0, "SUCCESS")
    for number in range(10):
        child = os.fork()
        if child == 0:
            backend.store_result(f"child-{number}", number, "SUCCESS")
            os.kill(os.getpid(), signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    wanted = {"parent", *(f"child-{number}" for number in range(10))}
    eventually(lambda: stored(database_uri) == wanted, 10)


def test_a_refused_row_does_not_fail_the_task_after_it(
    backend: PooledDatabaseBackend, database_uri: str
) -> None:
    backend.store_result("x" * 156, "an id of 156 characters", "SUCCESS")
    backend.store_result("next", 1, "SUCCESS")
    eventually(lambda: stored(database_uri) == {"next"}, 10)


def test_a_database_that_was_away_gets_both_the_row_in_flight_and_the_next(
    backend: PooledDatabaseBackend, database_uri: str
) -> None:
    name = make_url(database_uri).database
    other = make_url(database_uri).set(database="postgres")
    backend.store_result("before", 1, "SUCCESS")
    eventually(lambda: stored(database_uri) == {"before"}, 10)
    refuse = f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'
    on_the_server(other.render_as_string(hide_password=False), refuse)
    on_the_server(
        other.render_as_string(hide_password=False),
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
    )
    backend.store_result("while", 2, "SUCCESS")  # leaves, and nobody answers
    with pytest.raises(BackendStoreError):
        backend.store_result("refused", 3, "SUCCESS")
    on_the_server(other.render_as_string(hide_password=False), refuse.replace("false", "true"))

    backend.store_result("after", 4, "SUCCESS")

    eventually(lambda: stored(database_uri) == {"before", "while", "after"}, 10)


def test_a_success_is_never_overwritten(backend: PooledDatabaseBackend) -> None:
    backend.store_result("one", 1, "SUCCESS")
    backend.store_result("one", None, "RETRY")
    backend.store_result("two", 2, "SUCCESS")
    eventually(lambda: backend.get_task_meta("two", cache=False)["status"] == "SUCCESS", 10)
    assert backend.get_task_meta("one", cache=False)["status"] == "SUCCESS"


def test_an_empty_database_says_what_is_missing(server_uri: object) -> None:
    with new_database(server_uri) as uri:  # type: ignore[arg-type]
        app = Celery("probe")
        app.conf.update(result_backend_settings(uri))
        with pytest.raises(Exception, match="celery_taskmeta"):
            app.backend.store_result("one", 1, "SUCCESS")
