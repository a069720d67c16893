"""``rag-worker demo`` and ``up``: one command brings everything up, and takes everything down."""

import re
import signal
import stat
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from shared.settings.base import STACK_ENV_FILE
from tests.fixtures.commands import (
    RAG_WORKER,
    Ran,
    Running,
    StartCommand,
    all_gone,
    rag_worker,
)
from tests.fixtures.waiting import eventually

SAMPLES = Path(str(files("worker"))) / "samples" / "documents"
DATA = Path(".rag-worker")
READY = "Ready. In another terminal"


@pytest.fixture
def up(start_command: StartCommand) -> Running:
    """The stack, kept up in this test's folder."""
    running = start_command([RAG_WORKER, "up"])
    running.await_output(READY, 100)
    return running


def questions(demo: Ran) -> list[list[str]]:
    """What was found for each question."""
    parts = re.split(r"^\? ", demo.out, flags=re.MULTILINE)[1:]
    return [re.findall(r"^  (\d\.\d{3}  .+, position \d+)$", part, re.MULTILINE) for part in parts]


def leftovers(folder: Path) -> list[psutil.Process]:
    """Processes that run in a folder or name it in their command."""
    found = []
    for process in psutil.process_iter():
        try:
            text = " ".join([process.cwd(), *process.cmdline(), *process.environ().values()])
        except (psutil.Error, OSError):
            continue
        if str(folder) in text and process.pid != psutil.Process().pid:
            found.append(process)
    return found


def listens(url: str) -> bool:
    port = urlsplit(url).port
    return any(
        one.laddr.port == port for one in psutil.net_connections("tcp") if one.status == "LISTEN"
    )


def assert_private(data: Path) -> None:
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert sorted(path.name for path in data.iterdir() if path.name != "stack.env") == [
        "flower", "lock", "logs", "postgres", "presence", "storage", "valkey",
    ]  # fmt: skip


def test_the_demo_answers_leaves_nothing_and_indexes_nothing_twice(tmp_path: Path) -> None:
    first = rag_worker("demo")

    assert first.code == 0, first
    assert "\n10 indexed, 0 there already\n" in first.out
    found = questions(first)
    assert len(found) == 3
    assert all(found)
    assert "handbook.pdf" in found[0][0]
    (flower,) = re.findall(r"Flower: (http://\S+) \(login \S+:\S+\)", first.out)
    assert not listens(flower)
    assert leftovers(tmp_path) == []
    assert_private(DATA)

    second = rag_worker("demo")
    assert second.code == 0, second
    assert "\n0 indexed, 10 there already\n" in second.out
    assert questions(second) == found

    docs = tmp_path / "mine"
    docs.mkdir()
    (docs / "good.md").write_text("# Owls\n\nThe owl hunts by night over the meadow.")
    (docs / "empty.csv").write_bytes(b"")
    (docs / "broken.docx").write_bytes((SAMPLES / "energy-system.docx").read_bytes()[:9000])
    (docs / "dangling.txt").symlink_to("nowhere")
    third = rag_worker("demo", "--docs", docs)
    assert third.code == 0, third
    assert "\n1 indexed, 0 there already\n" in third.out
    assert "good.md, position 0" in third.out
    failed = third.out.split("Not indexed: 3\n")[1].splitlines()[:3]
    assert [line.split(":")[0].strip() for line in failed] == [
        "broken.docx", "dangling.txt", "empty.csv",
    ]  # fmt: skip
    assert all(len(line.split(": ", 1)[1]) > 10 for line in failed)
    assert leftovers(tmp_path) == []


def test_up_serves_other_terminals_until_ctrl_c(up: Running, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("The puffin nests in burrows.")
    descendants = up.descendants()
    assert len(descendants) > 5

    assert rag_worker("index", "a.txt").code == 0
    assert "a.txt, position 0" in rag_worker("search", "Where does the puffin nest?").out
    assert stat.S_IMODE(STACK_ENV_FILE.stat().st_mode) == 0o600
    second = rag_worker("up").failed_in_one_line(3)
    assert f"Another stack runs on {DATA.absolute()}" in second
    assert "puffin" in rag_worker("search", "Where does the puffin nest?").out
    assert_private(DATA)

    assert up.end(signal.SIGINT) == 0
    assert "Stopping" in up.output()
    eventually(lambda: all_gone(descendants), 10)
    assert not STACK_ENV_FILE.exists()
    assert leftovers(tmp_path) == []


def test_up_ends_on_sigterm_as_on_ctrl_c(up: Running, tmp_path: Path) -> None:
    descendants = up.descendants()

    assert up.end(signal.SIGTERM) == 0

    eventually(lambda: all_gone(descendants), 10)
    assert not STACK_ENV_FILE.exists()


def test_up_killed_takes_everything_with_it_and_starts_again(
    up: Running, start_command: StartCommand, tmp_path: Path
) -> None:
    descendants = up.descendants()

    up.end(signal.SIGKILL)

    eventually(lambda: all_gone(descendants), 30)
    assert "database does not answer" in rag_worker("status").failed_in_one_line(5)
    again = start_command([RAG_WORKER, "up"])
    again.await_output(READY, 100)
    assert again.end(signal.SIGTERM) == 0


def test_up_says_which_server_died(up: Running) -> None:
    name, log = "postgres", "postgres/server.log"
    descendants = up.descendants()
    (victim,) = [
        one
        for one in psutil.Process(up.process.pid).children()
        if "unix_socket_directories=" in one.cmdline()
    ]
    victim.kill()

    assert up.process.wait(300) == 5
    last = up.output().splitlines()[-1]
    assert last == f"rag-worker: {name} ended by itself: its log is {DATA.absolute()}/{log}"
    eventually(lambda: all_gone(descendants), 10)
    assert not STACK_ENV_FILE.exists()
