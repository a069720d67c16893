"""Valkey from the wheel, started for real."""

import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest
import redis

from shared.errors import ConfigurationError, ServiceUnavailable
from worker.cli.stack.children import eventually, free_port
from worker.cli.stack.valkey import EmbeddedValkey

OWNER = """
import sys, threading
from pathlib import Path
from worker.cli.stack.valkey import EmbeddedValkey
server = EmbeddedValkey(Path(sys.argv[1]))
print(server.start(), server.pid, flush=True)
threading.Event().wait()
"""


@contextmanager
def connected(url: str) -> Iterator[redis.Redis]:
    with closing(redis.Redis.from_url(url, decode_responses=True)) as client:
        yield client


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def start_owner(folder: Path) -> tuple[subprocess.Popen[str], str, int]:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    url, pid = owner.stdout.readline().split()
    return owner, url, int(pid)


def kill_owner(owner: subprocess.Popen[str]) -> None:
    owner.kill()
    owner.communicate()


def test_the_server_wants_a_password_and_never_evicts(tmp_path: Path) -> None:
    folder = tmp_path / 'with space and "quote"'
    with EmbeddedValkey(folder) as server, connected(server.url) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        password = (folder / "password").read_text()
        process = psutil.Process(server.pid)
        assert password not in " ".join(process.cmdline())
        assert {c.laddr.ip for c in process.net_connections("inet") if c.status == "LISTEN"} == {
            "127.0.0.1"
        }
        with (
            connected(server.url.replace(f":{password}@", "")) as stranger,
            pytest.raises(redis.AuthenticationError),
        ):
            stranger.ping()
        for name in ("password", "valkey.conf", "server.log"):
            assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600, name


def test_stop_ends_it_and_a_second_start_keeps_the_data(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path / "vk")
    with connected(server.start()) as client:
        client.set("kept", "yes")
    pid = server.pid
    assert pid is not None
    server.stop()
    assert gone(pid)
    with pytest.raises(ServiceUnavailable, match="not started"):
        _ = server.url
    with EmbeddedValkey(tmp_path / "vk") as again, connected(again.url) as client:
        assert client.get("kept") == "yes"


def test_without_persistence_a_second_start_is_empty(tmp_path: Path) -> None:
    for _ in range(2):
        with (
            EmbeddedValkey(tmp_path / "vk", persist=False) as server,
            connected(server.url) as client,
        ):
            assert client.dbsize() == 0
            client.set("lost", "yes")


@pytest.mark.parametrize(("keep_data", "expected"), [(True, "yes"), (False, None)])
def test_a_killed_server_restarts_at_the_same_address(
    tmp_path: Path, *, keep_data: bool, expected: str | None
) -> None:
    with EmbeddedValkey(tmp_path / "vk") as server:
        url = server.url
        with connected(url) as client:
            client.set("key", "yes")
        server.kill()
        assert not server.alive
        with connected(url) as client, pytest.raises(redis.ConnectionError):
            client.ping()
        assert server.restart(keep_data=keep_data) == url
        with connected(url) as client:
            assert client.get("key") == expected


def test_a_restart_never_moves_to_another_port_nor_tells_its_thief_the_password(
    tmp_path: Path,
) -> None:
    with EmbeddedValkey(tmp_path / "vk") as server:
        port = int(server.url.rsplit(":", 1)[1].split("/")[0])
        server.kill()
        with socket.create_server(("127.0.0.1", port)) as thief:
            with pytest.raises(ServiceUnavailable, match="Address already in use"):
                server.restart()
            thief.settimeout(0)
            with pytest.raises(BlockingIOError):
                thief.accept()
        assert f":{port}/" in server.restart()


def test_a_lost_race_for_the_port_is_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as squatter:
        busy = squatter.getsockname()[1]
        offers = iter([busy, free_port()])
        monkeypatch.setattr("worker.cli.stack.server.free_port", lambda: next(offers))
        with EmbeddedValkey(tmp_path / "vk") as server, connected(server.url) as client:
            assert f":{busy}/" not in server.url
            assert client.ping()


def test_killing_the_owner_ends_the_server_and_frees_the_folder(tmp_path: Path) -> None:
    owner, url, pid = start_owner(tmp_path / "vk")
    with connected(url) as client:
        client.set("kept", "yes")
    kill_owner(owner)
    assert eventually(lambda: gone(pid), 300)
    with EmbeddedValkey(tmp_path / "vk") as server, connected(server.url) as client:
        assert client.get("kept") == "yes"


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_an_orphaned_server_is_stopped_before_the_next_start(tmp_path: Path) -> None:
    first = EmbeddedValkey(tmp_path / "vk")
    first.start()
    orphan = first._process
    assert orphan is not None
    first._process = None
    first.stop()
    assert orphan.poll() is None
    with EmbeddedValkey(tmp_path / "vk"):
        assert orphan.wait(300) == 0


def test_a_second_stack_on_the_folder_is_refused(tmp_path: Path) -> None:
    owner, url, _ = start_owner(tmp_path / "vk")
    try:
        with pytest.raises(ConfigurationError, match="Another stack runs on"):
            EmbeddedValkey(tmp_path / "vk").start()
        with connected(url) as client:
            assert client.ping()
    finally:
        kill_owner(owner)
