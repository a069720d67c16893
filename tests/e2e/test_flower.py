"""Flower as it is started: by our settings, never open, and with a memory."""

import contextlib
import os
import signal
from pathlib import Path

import pytest
from flask import Flask

from shared.contract import PROBE
from tests.fixtures.commands import run
from tests.fixtures.flower import FLOWER, LOGIN, StartFlower
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker
from worker.cli.stack.children import free_port

OPEN_TO_ALL = "Flower would be open to everybody on"


@pytest.fixture(autouse=True)
def _project(pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch, app: Flask) -> None:
    monkeypatch.setenv("PYTHONPATH", str(pytestconfig.rootpath))


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.1"])
def test_it_refuses_to_be_open_to_the_network(address: str) -> None:
    by_variable = run(list(FLOWER), FLOWER_ADDRESS=address).failed_in_one_line(3)
    by_option = run([*FLOWER, f"--address={address}"]).failed_in_one_line(3)

    assert by_variable == by_option
    assert f"{OPEN_TO_ALL} {address}: set FLOWER_BASIC_AUTH=user:password" in by_variable


def test_it_refuses_whatever_way_it_is_told() -> None:
    Path(".env").write_text("FLOWER_ADDRESS=0.0.0.0\n")
    assert OPEN_TO_ALL in run(list(FLOWER)).failed_in_one_line(3)
    Path(".env").unlink()
    Path("flowerconfig.py").write_text("address = ''\n")
    assert f"{OPEN_TO_ALL} every address" in run(list(FLOWER)).failed_in_one_line(3)
    Path("flowerconfig.py").unlink()
    nobody = run([*FLOWER, "--address=0.0.0.0", "--basic_auth="]).failed_in_one_line(3)
    assert "FLOWER_BASIC_AUTH: write user:password" in nobody


def test_half_a_login_is_refused_by_name_and_no_secret_is_shown() -> None:
    half = {"FLOWER_AUTH_PROVIDER": "github", "FLOWER_OAUTH2_SECRET": "hush"}
    refused = run(list(FLOWER), **half).failed_in_one_line(3)
    assert refused.endswith("also needs FLOWER_AUTH, FLOWER_OAUTH2_KEY, FLOWER_OAUTH2_REDIRECT_URI")
    assert "FLOWER_BASIC_AUTH" in run(list(FLOWER), FLOWER_BASIC_AUTH="hush").failed_in_one_line(3)
    assert "hush" not in refused


def test_it_says_where_it_cannot_remember() -> None:
    Path("file").touch()
    refused = run(list(FLOWER), FLOWER_DB="file/state").failed_in_one_line(3)
    assert f"FLOWER_DB: Flower cannot remember anything in {Path.cwd()}/file/state" in refused


def test_on_this_machine_alone_it_needs_no_login(start_flower: StartFlower) -> None:
    flower = start_flower(FLOWER_BASIC_AUTH="")
    eventually(lambda: "Workers" in flower.page("/"))
    assert listening(flower.process.process.pid, flower.port) == {"127.0.0.1"}


def test_a_login_in_the_env_file_opens_it_to_the_network(start_flower: StartFlower) -> None:
    Path(".env").write_text(f'FLOWER_BASIC_AUTH="{LOGIN}"\nFLOWER_ADDRESS=0.0.0.0\n')
    flower = start_flower(FLOWER_BASIC_AUTH="")
    eventually(lambda: "Workers" in flower.page("/"))
    assert listening(flower.process.process.pid, flower.port) == {"0.0.0.0"}
    assert flower.status("/") == 401
    assert flower.status("/tasks") == 401


def last_written(folder: Path) -> int:
    """When something was written there, in nanoseconds."""
    times = [0]
    for one in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # put in the place of another meanwhile
            times.append(one.stat().st_mtime_ns)
    return max(times)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_it_remembers_tasks_and_workers_over_a_restart(
    end: signal.Signals, app: Flask, start_flower: StartFlower, start_worker: StartWorker
) -> None:
    variables = {"FLOWER_STATE_SAVE_INTERVAL": "200"} if end is signal.SIGKILL else {}
    first = start_flower(**variables)
    eventually(lambda: first.status("/healthcheck") == 200)
    worker = start_worker("solo", 1, "-E")
    app.extensions["celery"].send_task(PROBE.name, queue=PROBE.queue)
    eventually(lambda: "SUCCESS" in {one["state"] for one in first.tasks().values()})
    known = set(first.tasks())
    assert worker.terminate() == 0
    if end is signal.SIGKILL:
        file = Path(os.environ["RAG_WORKER_DATA_DIR"]) / "flower"
        seen = last_written(file)
        eventually(lambda: last_written(file) > seen)
    first.process.end(end)

    again = start_flower()
    eventually(lambda: again.status("/healthcheck") == 200)

    assert known <= set(again.tasks())
    assert {one["name"] for one in again.tasks().values()} == {PROBE.name}
    assert worker.name in again.page("/workers")


def test_at_debug_its_log_shows_no_secret(start_flower: StartFlower) -> None:
    secrets = {"FLOWER_COOKIE_SECRET": "hush-cookie", "FLOWER_BASIC_AUTH": "a:hush-login"}
    oauth = {
        "FLOWER_AUTH": "ada@example.com",
        "FLOWER_AUTH_PROVIDER": "google",
        "FLOWER_OAUTH2_KEY": "client",
        "FLOWER_OAUTH2_SECRET": "hush-oauth",
        "FLOWER_OAUTH2_REDIRECT_URI": f"http://127.0.0.1:{free_port()}/login",
    }
    flower = start_flower(LOG_LEVEL="DEBUG", FLOWER_DEBUG="true", **secrets, **oauth)
    eventually(lambda: flower.status("/healthcheck") == 200)
    flower.process.await_output("Connected to")
    assert "hush" not in flower.process.output()


def listening(pid: int, port: int) -> set[str]:
    """The addresses on which a process listens."""
    import psutil

    found = psutil.Process(pid).net_connections("inet")
    return {one.laddr.ip for one in found if one.status == "LISTEN" and one.laddr.port == port}
