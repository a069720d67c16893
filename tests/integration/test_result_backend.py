"""The result backend on a real PostgreSQL, alone and in real workers."""

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier
from uuid import uuid4

import psycopg2
import pytest
from celery import Celery, group
from celery.app.task import Context
from celery.exceptions import BackendStoreError
from celery.result import AsyncResult, GroupResult
from kombu.exceptions import DecodeError
from sqlalchemy import URL, create_engine, make_url
from sqlalchemy.exc import DataError

from shared.errors import ConfigurationError
from shared.models.task_result import GROUP_RESULTS, RESULT_METADATA, TASK_RESULTS
from shared.queueing.result_backend import PooledDatabaseBackend, result_backend_settings
from worker.cli.stack.postgres import EmbeddedPostgres
from worker.cli.stack.valkey import EmbeddedValkey

REPOSITORY = Path(__file__).parents[2]
POOLS = {"prefork": "2", "gevent": "50", "threads": "4", "solo": "1"}
GET_SECONDS = 300

# A worker's and a reader's application.
WORKER_APP = """
import os

if os.environ["POOL"] == "gevent":
    from psycogreen.gevent import patch_psycopg

    patch_psycopg()

from celery import Celery

from shared.queueing.result_backend import result_backend_settings

app = Celery("probe", broker=os.environ["BROKER"])
app.conf.update(
    result_backend_settings(os.environ["DATABASE"]),
    result_extended=True,
    task_acks_late=True,
    task_default_queue=os.environ["POOL"],
    broker_transport_options={"max_connections": 100},
)


@app.task(name="probe.double")
def double(number):
    return number * 2


@app.task(name="probe.fail")
def fail():
    raise ValueError("nul \\x00 and surrogate \\udc80")
"""

# Under gevent, in a process of its own: the patches cannot be undone.
KILLED_GREENLETS = """
from gevent import monkey

monkey.patch_all()
from psycogreen.gevent import patch_psycopg

patch_psycopg()
import sys

import gevent
from celery import Celery

from shared.queueing.result_backend import result_backend_settings

app = Celery("probe")
app.conf.update(result_backend_settings(sys.argv[1]))
backend = app.backend


def store(number):
    backend.store_result(f"{sys.argv[2]}-{number}", number, "SUCCESS")


for round_ in range(10):
    numbers = range(round_ * 60, round_ * 60 + 60)
    greenlets = {number: gevent.spawn(store, number) for number in numbers}
    # The first leads and now waits for the database, the others wait for it.
    gevent.sleep(0)
    for number in numbers:
        # The leader, somebody in the middle of the line, the last.
        if number % 60 in (0, 1, 30, 59):
            greenlets[number].kill(block=False)
    gevent.joinall(greenlets.values(), timeout=300, raise_error=True)
    for number, greenlet in greenlets.items():
        if not isinstance(greenlet.value, gevent.GreenletExit):
            assert greenlet.successful(), number
            print(number)
"""


@pytest.fixture(scope="module")
def database_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with EmbeddedPostgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server.uri


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with EmbeddedValkey(tmp_path_factory.mktemp("valkey"), persist=False) as server:
        yield server.url


@pytest.fixture
def tables(database_uri: str) -> None:
    engine = create_engine(database_uri)
    RESULT_METADATA.create_all(engine)
    engine.dispose()


def new_app(uri: str, **settings: object) -> Celery:
    app = Celery("probe", set_as_current=False)
    app.conf.update(result_backend_settings(uri), result_extended=True, **settings)
    return app


@pytest.fixture
def app(database_uri: str, tables: None) -> Iterator[Celery]:
    made = new_app(database_uri)
    yield made
    made.backend.engine.dispose()


@pytest.fixture
def backend(app: Celery) -> PooledDatabaseBackend:
    return app.backend


def execute(uri: str, statement: str, *values: object) -> list[tuple[object, ...]]:
    connection = psycopg2.connect(uri.replace("+psycopg2", ""))
    with closing(connection), connection, connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        return cursor.fetchall() if cursor.description else []


def stored(uri: str, task_id: str, column: str = "status") -> object:
    statement = f"SELECT {column} FROM celery_taskmeta WHERE task_id = %s"
    ((value,),) = execute(uri, statement, task_id)
    return value


def kill_connections(uri: str) -> int:
    return len(
        execute(
            uri,
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
    )


@pytest.mark.parametrize("later", ["RETRY", "FAILURE"])
def test_a_success_is_never_overwritten(
    backend: PooledDatabaseBackend, database_uri: str, later: str
) -> None:
    task_id = str(uuid4())
    backend.store_result(task_id, 1, "SUCCESS")
    backend.store_result(task_id, ValueError("late"), later)
    backend.store_result(task_id, 2, "SUCCESS")
    assert stored(database_uri, task_id) == "SUCCESS"
    assert backend.get_task_meta(task_id)["result"] == 1


def test_a_success_overwrites_a_failure(backend: PooledDatabaseBackend, database_uri: str) -> None:
    task_id = str(uuid4())
    backend.store_result(task_id, ValueError("first"), "FAILURE", traceback="Traceback: first")
    backend.store_result(task_id, {"pages": 3}, "SUCCESS")
    meta = backend.get_task_meta(task_id)
    assert (meta["status"], meta["result"], meta["traceback"]) == ("SUCCESS", {"pages": 3}, None)


def test_every_retry_is_reported_over_the_one_before(backend: PooledDatabaseBackend) -> None:
    task_id = str(uuid4())
    for number in range(3):
        backend.store_result(task_id, ValueError(f"try {number}"), "RETRY")
    assert str(backend.get_task_meta(task_id)["result"]) == "try 2"


def test_a_traceback_may_quote_what_postgresql_cannot_hold(backend: PooledDatabaseBackend) -> None:
    task_id = str(uuid4())
    backend.store_result(task_id, ValueError("x"), "FAILURE", traceback="a\x00b\udc80c")
    assert backend.get_task_meta(task_id)["traceback"] == "a\N{REPLACEMENT CHARACTER}b?c"


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (os.environ["BOMB_FOLDER"],)


def test_a_pickle_in_a_row_is_not_unpickled(
    backend: PooledDatabaseBackend,
    database_uri: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BOMB_FOLDER", str(tmp_path / "exploded"))
    task_id, group_id = str(uuid4()), str(uuid4())
    backend.store_result(task_id, 1, "FAILURE")
    backend.save_group(group_id, GroupResult(group_id, [], app=backend.app))
    payload = pickle.dumps(Bomb())
    execute(database_uri, "UPDATE celery_taskmeta SET result = %s", payload)
    execute(database_uri, "UPDATE celery_tasksetmeta SET result = %s", payload)
    with pytest.raises(DecodeError):
        backend.get_task_meta(task_id)
    with pytest.raises(DecodeError):
        backend.restore_group(group_id)
    assert not (tmp_path / "exploded").exists()


def test_pickled_results_are_refused(database_uri: str) -> None:
    with pytest.raises(ConfigurationError, match="pickle"):
        _ = new_app(database_uri, result_serializer="pickle").backend


@pytest.mark.parametrize(
    "uri", ["postgresql://a@b/c", "postgresql+psycopg://a@b/c", "sqlite:///x.db", "no URI"]
)
def test_another_driver_is_a_configuration_error(uri: str) -> None:
    with pytest.raises(ConfigurationError, match="result"):
        result_backend_settings(uri)
    app = Celery("probe", set_as_current=False)
    app.conf.update(result_backend_settings("postgresql+psycopg2://a@b/c"), database_url=uri)
    with pytest.raises(ConfigurationError, match="result"):
        _ = app.backend


def test_the_password_is_in_no_report() -> None:
    app = new_app("postgresql+psycopg2://user:hush@host/name")
    shown = [app.conf.humanize(), app.backend.as_uri(), app.bugreport(), str(app.conf.table())]
    assert "hush" not in " ".join(shown)


def test_a_killed_connection_costs_no_result(
    backend: PooledDatabaseBackend, database_uri: str
) -> None:
    first, second = str(uuid4()), str(uuid4())
    backend.store_result(first, 1, "SUCCESS")
    assert kill_connections(database_uri) >= 1
    backend.store_result(second, 2, "SUCCESS")
    assert kill_connections(database_uri) >= 1
    assert backend.get_task_meta(first)["result"] == 1
    assert backend.get_task_meta(second)["result"] == 2


def test_a_database_that_stays_away_is_a_store_error(app: Celery, database_uri: str) -> None:
    nowhere = make_url(database_uri).set(port=1).render_as_string(hide_password=False)
    away = new_app(nowhere, result_backend_max_retries=2).backend
    with pytest.raises(BackendStoreError):
        away.store_result(str(uuid4()), 1, "SUCCESS")


def test_a_forked_child_uses_a_connection_of_its_own(
    backend: PooledDatabaseBackend, database_uri: str
) -> None:
    def connection_pid() -> int:
        with backend.engine.connect() as connection:
            return int(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())

    task_id, parents = str(uuid4()), connection_pid()
    pid = os.fork()
    if pid == 0:
        try:
            backend.store_result(task_id, "from the child", "SUCCESS")
            os._exit(0 if connection_pid() != parents else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert connection_pid() == parents
    assert backend.get_task_meta(task_id)["result"] == "from the child"


def test_a_child_forked_during_a_store_does_not_wait_for_it(
    backend: PooledDatabaseBackend, database_uri: str
) -> None:
    task_id, others = str(uuid4()), str(uuid4())
    backend.store_result(task_id, 0, "RETRY")
    with ThreadPoolExecutor(1) as pool, row_locked(database_uri, task_id):
        storing = pool.submit(backend.store_result, task_id, 1, "SUCCESS")
        await_blocked(database_uri)
        pid = os.fork()
        if pid == 0:
            try:
                backend.store_result(others, 2, "SUCCESS")
                os._exit(0)
            finally:
                os._exit(2)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert not storing.done()
    assert code == 0
    assert stored(database_uri, task_id) == stored(database_uri, others) == "SUCCESS"


@contextmanager
def row_locked(uri: str, task_id: str) -> Iterator[None]:
    connection = psycopg2.connect(uri.replace("+psycopg2", ""))
    with closing(connection), connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM celery_taskmeta WHERE task_id = %s FOR UPDATE", (task_id,))
        yield


def await_blocked(uri: str) -> None:
    """Return once somebody waits for a lock of somebody else; the test's timeout is the limit."""
    while not execute(uri, "SELECT 1 FROM pg_locks WHERE NOT granted"):
        pass


def test_fifty_at_once_all_land(backend: PooledDatabaseBackend, database_uri: str) -> None:
    batch, start = str(uuid4()), Barrier(50)

    def store(number: int) -> None:
        start.wait()
        for part in range(4):
            backend.store_result(f"{batch}-{number}-{part}", number, "SUCCESS")

    with ThreadPoolExecutor(50) as pool:
        list(pool.map(store, range(50)))
    query = "SELECT count(*), count(DISTINCT task_id) FROM celery_taskmeta WHERE task_id LIKE %s"
    assert execute(database_uri, query, f"{batch}-%") == [(200, 200)]


BAD_IDS = {"too long": ("x" * 200, DataError), "unsendable": ("x\x00y", ValueError)}


@pytest.mark.parametrize("kind", BAD_IDS)
def test_a_bad_row_fails_alone(
    backend: PooledDatabaseBackend, database_uri: str, kind: str
) -> None:
    bad_id, error = BAD_IDS[kind]
    first, good = str(uuid4()), [str(uuid4()) for _ in range(20)]
    backend.store_result(first, 0, "RETRY")
    with ThreadPoolExecutor(30) as pool:
        with row_locked(database_uri, first):
            # It holds the writer up, so that the rest becomes one group.
            leading = pool.submit(backend.store_result, first, 1, "SUCCESS")
            await_blocked(database_uri)
            stores = [pool.submit(backend.store_result, one, 1, "SUCCESS") for one in good[:10]]
            bad = pool.submit(backend.store_result, bad_id, 1, "SUCCESS")
            stores += [pool.submit(backend.store_result, one, 1, "SUCCESS") for one in good[10:]]
            await_waiting(backend, 21)
        leading.result()
        for done in stores:
            done.result()
        with pytest.raises(error):
            bad.result()
    assert {stored(database_uri, one) for one in [first, *good]} == {"SUCCESS"}


def await_waiting(backend: PooledDatabaseBackend, rows: int) -> None:
    while len(backend._tasks._waiting) < rows:
        pass


def test_one_group_may_hold_a_task_twice(backend: PooledDatabaseBackend, database_uri: str) -> None:
    first, twice = str(uuid4()), str(uuid4())
    backend.store_result(first, 0, "RETRY")
    with ThreadPoolExecutor(3) as pool:
        with row_locked(database_uri, first):
            leading = pool.submit(backend.store_result, first, 1, "SUCCESS")
            await_blocked(database_uri)
            done = pool.submit(backend.store_result, twice, 1, "SUCCESS")
            await_waiting(backend, 1)
            late = pool.submit(backend.store_result, twice, 0, "RETRY")
            await_waiting(backend, 2)
        for one in (leading, done, late):
            one.result()
    assert stored(database_uri, twice) == "SUCCESS"


def test_large_results_travel_in_groups_of_their_own(
    backend: PooledDatabaseBackend, database_uri: str
) -> None:
    batch, start = str(uuid4()), Barrier(8)

    def store(number: int) -> None:
        start.wait()
        backend.store_result(f"{batch}-{number}", "x" * 600_000, "SUCCESS")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(store, range(8)))
    query = "SELECT count(*), min(length(result)) FROM celery_taskmeta WHERE task_id LIKE %s"
    assert execute(database_uri, query, f"{batch}-%") == [(8, 600_002)]


def test_killed_greenlets_take_nobody_with_them(database_uri: str, tables: None) -> None:
    batch = str(uuid4())
    outcome = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED_GREENLETS, database_uri, batch],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr
    reported = {f"{batch}-{number}" for number in outcome.stdout.split()}
    rows = execute(
        database_uri, "SELECT task_id FROM celery_taskmeta WHERE task_id LIKE %s", f"{batch}-%"
    )
    assert len(reported) >= 10 * 56
    assert reported <= {task_id for (task_id,) in rows}


def test_a_group_is_saved_again_restored_and_deleted(
    app: Celery, backend: PooledDatabaseBackend
) -> None:
    parts = [AsyncResult(str(uuid4()), app=app) for _ in range(3)]
    saved = GroupResult(str(uuid4()), parts, app=app)
    saved.save()
    saved.save()
    restored = GroupResult.restore(saved.id, app=app)
    assert [part.id for part in restored.results] == [part.id for part in parts]
    saved.delete()
    assert GroupResult.restore(saved.id, app=app) is None


def test_the_extended_columns_are_stored(backend: PooledDatabaseBackend, database_uri: str) -> None:
    request = Context(
        id=str(uuid4()),
        task="probe.double",
        args=[21],
        kwargs={"base": 10},
        hostname="worker@host",
        retries=2,
        delivery_info={"routing_key": "dataset"},
        children=[],
        stamped_headers=["tenant"],
        stamps={"tenant": ["t1"]},
        tenant=["t1"],
    )
    backend.store_result(request.id, ValueError("try"), "RETRY", request=request)
    meta = backend.get_task_meta(request.id)
    assert (meta["name"], meta["args"], meta["kwargs"]) == ("probe.double", [21], {"base": 10})
    assert (meta["worker"], meta["retries"], meta["queue"]) == ("worker@host", 2, "dataset")
    backend.store_result(request.id, 42, "SUCCESS")
    assert stored(database_uri, request.id, "stamps") is not None, "an update keeps the stamps"


def test_the_time_is_utc_whatever_the_zone_of_the_server(
    backend: PooledDatabaseBackend, database_uri: str
) -> None:
    name = make_url(database_uri).database
    execute(database_uri, f"ALTER DATABASE {name} SET timezone TO 'Asia/Tokyo'")
    try:
        task_id = str(uuid4())
        backend.store_result(task_id, 1, "SUCCESS")
        age = datetime.now(UTC).replace(tzinfo=None) - stored(database_uri, task_id, "date_done")
        assert abs(age) < timedelta(minutes=1)
    finally:
        execute(database_uri, f"ALTER DATABASE {name} RESET timezone")


def test_forget_and_cleanup_delete(backend: PooledDatabaseBackend, database_uri: str) -> None:
    forgotten, old, new, old_group = (str(uuid4()) for _ in range(4))
    for task_id in (forgotten, old, new):
        backend.store_result(task_id, 1, "SUCCESS")
    backend.save_group(old_group, GroupResult(old_group, [], app=backend.app))
    for table, key, one in (
        (TASK_RESULTS.name, "task_id", old),
        (GROUP_RESULTS.name, "taskset_id", old_group),
    ):
        aged = f"UPDATE {table} SET date_done = date_done - interval '25 hours' WHERE {key} = %s"
        execute(database_uri, aged, one)
    backend.forget(forgotten)
    backend.cleanup()
    kept = {
        task_id
        for (task_id,) in execute(database_uri, "SELECT task_id FROM celery_taskmeta")
        if task_id in {forgotten, old, new}
    }
    assert kept == {new}
    assert backend.restore_group(old_group) is None


def test_it_creates_no_table(database_uri: str, tables: None) -> None:
    run_outside_transaction(database_uri, "CREATE DATABASE bare")
    bare: URL = make_url(database_uri).set(database="bare")
    app = new_app(bare.render_as_string(hide_password=False))
    try:
        with pytest.raises(Exception, match="celery_taskmeta"):
            app.backend.store_result(str(uuid4()), 1, "SUCCESS")
    finally:
        app.backend.engine.dispose()


def run_outside_transaction(uri: str, statement: str) -> None:
    with closing(psycopg2.connect(uri.replace("+psycopg2", ""))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)


@contextmanager
def worker(folder: Path, pool: str, broker: str, database: str) -> Iterator[Celery]:
    (folder / "probe.py").write_text(WORKER_APP)
    environment = os.environ | {
        "POOL": pool,
        "BROKER": broker,
        "DATABASE": database,
        "PYTHONWARNINGS": "ignore",
        "PYTHONPATH": f"{folder}{os.pathsep}{REPOSITORY}",
    }
    command = [sys.executable, "-m", "celery", "-A", "probe", "worker", "-P", pool]
    command += ["-c", POOLS[pool], "-n", f"{pool}@probe", "-l", "WARNING"]
    with (
        (folder / "worker.log").open("wb") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log) as process,
    ):
        app = new_app(database, broker_url=broker, task_default_queue=pool)
        try:
            yield app
        finally:
            process.terminate()
            process.wait(300)
            app.close()
            app.backend.engine.dispose()


@pytest.mark.parametrize("pool", POOLS)
def test_a_worker_stores_and_a_reader_reads(
    pool: str, tmp_path: Path, redis_url: str, database_uri: str, tables: None
) -> None:
    with worker(tmp_path, pool, redis_url, database_uri) as app:
        double = app.signature("probe.double")
        results = group(double.clone((number,)) for number in range(60)).apply_async()
        assert results.get(timeout=GET_SECONDS, interval=0.05) == [2 * one for one in range(60)]
        failed = app.send_task("probe.fail")
        with pytest.raises(ValueError, match="surrogate"):
            failed.get(timeout=GET_SECONDS, interval=0.05)
        assert "ValueError" in failed.traceback
        (seen,) = app.control.inspect(timeout=GET_SECONDS, limit=1).conf().values()
        assert "PooledDatabaseBackend" in seen["result_backend"]
        assert database_uri not in str(seen)
        connections = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'INSERT INTO celery%'"
        ((used,),) = execute(database_uri, connections)
        assert used <= int(POOLS[pool] if pool == "prefork" else 1)
