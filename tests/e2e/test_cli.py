"""``rag-worker`` as a user types it, on the test's servers and with a real worker."""

import contextlib
import json
import os
import pty
import subprocess
from pathlib import Path
from uuid import uuid4

import pytest

from shared.models import DocumentStatus
from tests.fixtures.application import Reader
from tests.fixtures.commands import BIN, RAG_WORKER, rag_worker, run
from tests.fixtures.worker_process import StartWorker, WorkerProcess
from worker.cli.lazily import COMMANDS
from worker.cli.stack.children import free_port

SEARCHED = ("search", "Which bird keeps its reeds?", "--json")


@pytest.fixture
def worker(start_worker: StartWorker) -> WorkerProcess:
    return start_worker("solo", 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with what is found in folders."""
    made = tmp_path / "docs"
    (made / "nested" / ".hidden folder").mkdir(parents=True)
    (made / "heron.txt").write_text("The heron keeps its reeds.")
    (made / "nested" / "鹳.md").write_text("# Storks\n\nThe stork returns in March.")
    (made / "nested" / ".hidden folder" / "no.txt").write_text("never seen")
    (made / ".hidden.txt").write_text("never seen")
    (made / "dangling.txt").symlink_to("nowhere")
    os.mkfifo(made / "pipe.txt")
    # Its first page cannot be read, by root neither.
    (made / "unreadable.txt").symlink_to("/proc/self/mem")
    return made


def names(files: list[dict[str, str]]) -> list[str]:
    return [one["name"] for one in files]


def test_a_folder_is_indexed_found_and_indexed_again_when_it_changes(
    folder: Path, worker: WorkerProcess, reader: Reader
) -> None:
    first = rag_worker("index", folder, "--json")
    assert first.code == 1
    assert names(first.json()["indexed"]) == ["heron.txt", "nested/鹳.md"]
    assert {one["name"]: one["reason"] for one in first.json()["failed"]} == {
        "dangling.txt": "a link to nothing",
        "pipe.txt": "not a regular file",
        "unreadable.txt": "Input/output error",
    }
    assert "✓ nested/鹳.md" in first.err

    (passage, *_) = rag_worker(*SEARCHED).json()["passages"]
    assert (passage["document_name"], passage["position"]) == ("heron.txt", 0)
    assert 0 < passage["score"] <= 1

    for odd in ("dangling.txt", "pipe.txt", "unreadable.txt"):
        (folder / odd).unlink()
    # From another folder, and by another way to it.
    second = rag_worker("index", folder / "nested" / "..", folder / "heron.txt", "--json")
    assert second.code == 0
    assert second.json()["indexed"] == []
    assert names(second.json()["unchanged"]) == ["heron.txt", "nested/鹳.md"]

    (folder / "heron.txt").write_text("The crane has left for Spain.")
    third = rag_worker("index", folder)
    assert (third.code, third.out) == (0, "1 indexed, 1 unchanged, 0 submitted, 0 failed\n")
    found = rag_worker(*SEARCHED).json()["passages"]
    assert not any("heron keeps" in one["content"] for one in found)
    assert any("crane" in one["content"] for one in found)

    (heron,) = (one for one in first.json()["indexed"] if one["name"] == "heron.txt")
    shown = rag_worker("status", heron["document_id"], "--json").json()
    assert (shown["indexing_status"], shown["active_version"]) == ("completed", 2)
    assert "indexing_status: completed" in rag_worker("status", heron["document_id"]).out
    whole = rag_worker("status", "--json").json()
    assert (whole["documents"], whole["statuses"], whole["errors"]) == (2, {"completed": 2}, [])


def test_a_bad_file_is_told_with_its_reason(tmp_path: Path, worker: WorkerProcess) -> None:
    empty = tmp_path / "empty \x1b[31mred.txt"
    empty.write_bytes(b"")

    ran = rag_worker("index", empty)

    assert ran.code == 1
    assert ran.out.startswith("0 indexed, 0 unchanged, 0 submitted, 1 failed\n\nNot indexed: 1\n")
    assert "upload a file with content" in ran.out
    # A name must not drive the terminal.
    assert "\x1b" not in ran.out + ran.err
    assert rag_worker("status").out.splitlines()[-1].startswith("  empty")


@pytest.mark.parametrize(("terminal", "bar"), [("xterm-256color", "━"), ("dumb", "")])
def test_a_terminal_shows_a_bar_where_it_can(
    terminal: str, bar: str, tmp_path: Path, worker: WorkerProcess
) -> None:
    (tmp_path / "a.txt").write_text("The gull follows the boat.")

    shown = on_a_terminal("index", "a.txt", TERM=terminal)

    assert "a.txt  1 segments" in shown
    assert "1 indexed, 0 unchanged" in shown
    assert ("━" in shown, "\x1b[" in shown) == (bool(bar), bool(bar))


def on_a_terminal(*arguments: str, **variables: str) -> str:
    """Run ``rag-worker`` with a terminal for its output, and return what is written to it."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [RAG_WORKER, *arguments],
        env={**os.environ, **variables},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    written = b""
    # Linux answers EIO when the last one on the other side is gone.
    with contextlib.suppress(OSError):
        while piece := os.read(ours, 65536):
            written += piece
    os.close(ours)
    assert process.wait(300) == 0
    return written.decode()


def test_without_a_worker_nothing_is_waited_for_too_long(tmp_path: Path, reader: Reader) -> None:
    (tmp_path / "a.txt").write_text("It waits.")

    late = rag_worker("index", tmp_path / "a.txt", "--timeout", "0.5", "--json")
    assert late.code == 1
    (failed,) = late.json()["failed"]
    assert "not finished in time" in failed["reason"]

    (tmp_path / "b.txt").write_text("It waits, too.")
    left = rag_worker("index", tmp_path / "b.txt", "--no-wait", "--json")
    assert left.code == 0
    (submitted,) = left.json()["submitted"]
    assert reader.document(submitted["document_id"]).indexing_status == DocumentStatus.WAITING


def test_settings_are_shown_without_secrets() -> None:
    secrets = {
        "SECRET_KEY": "hush-1",
        "DB_PASSWORD": "hush-2",
        "REDIS_URL": "redis://:hush-3@127.0.0.1/0",
        "SQLALCHEMY_DATABASE_URI": "postgresql://u:hush-4@127.0.0.1/x",
        "FLOWER_BASIC_AUTH": "u:hush-5",
        "CELERY_BACKEND": "redis://:hush-6@127.0.0.1/1",
    }
    shown = rag_worker("config", "show", **secrets)
    as_json = rag_worker("config", "show", "--json", **secrets)

    assert "DB_PASSWORD=********" in shown.out
    assert as_json.json()["SECRET_KEY"] == "********"
    assert "hush" not in shown.out + as_json.out


def test_the_example_of_settings_is_the_one_in_the_repository(pytestconfig: pytest.Config) -> None:
    assert (
        rag_worker("config", "example").out == (pytestconfig.rootpath / ".env.example").read_text()
    )


def test_db_current_tells_the_revision(environment: dict[str, str]) -> None:
    ran = rag_worker("db", "current")

    assert ran.code == 0
    assert ran.out.strip().endswith("(head)")


@pytest.mark.timeout(400)
def test_every_command_has_help() -> None:
    whole = rag_worker("--help")
    assert "Exit codes" in whole.out
    for entry in COMMANDS:
        ran = rag_worker(entry.name, "--help")
        assert (ran.code, ran.err) == (0, "")
        # The table's line, which the whole help shows, is the command's own.
        assert entry.summary in whole.out
        assert entry.summary in ran.out


def test_a_dead_server_is_one_line(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    port = free_port()
    database = f"postgresql://u:hush@127.0.0.1:{port}/x"
    redis = f"redis://:hush@127.0.0.1:{port}/0"

    lines = [
        rag_worker("search", "x", SQLALCHEMY_DATABASE_URI=database).failed_in_one_line(5),
        rag_worker("status", SQLALCHEMY_DATABASE_URI=database).failed_in_one_line(5),
        rag_worker("index", tmp_path / "a.txt", REDIS_URL=redis, CELERY_BROKER_URL=redis)
        .failed_in_one_line(5),
    ]  # fmt: skip

    assert ["database" in lines[0], "database" in lines[1], "broker" in lines[2]] == [True] * 3
    assert not any("hush" in line for line in lines)


def test_no_tables_is_one_line_that_says_what_to_do(
    environment: dict[str, str], empty_database_uri: str
) -> None:
    ran = rag_worker("status", SQLALCHEMY_DATABASE_URI=empty_database_uri)

    assert "rag-worker db upgrade" in ran.failed_in_one_line(5)


def test_a_wrong_question_is_one_line(environment: dict[str, str]) -> None:
    wrong = rag_worker("config", "show", DB_PORT="many").failed_in_one_line(3)
    assert "DB_PORT" in wrong
    assert "DB_PORT" in rag_worker("status", DB_PORT="many").failed_in_one_line(3)
    assert "'nowhere'" in rag_worker("search", "x", "--dataset", "nowhere").failed_in_one_line(4)
    missing = uuid4()
    assert str(missing) in rag_worker("status", missing, "--json").failed_in_one_line(4)


@pytest.mark.parametrize(
    "arguments", [("index",), ("index", "no such file"), ("status", "no-uuid"), ("fly",)]
)
def test_wrong_usage_is_2(arguments: tuple[str, ...]) -> None:
    ran = rag_worker(*arguments)

    assert (ran.code, ran.out) == (2, "")
    assert "Traceback" not in ran.err


def test_a_users_own_flask_app_has_the_commands(
    worker: WorkerProcess, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    (tmp_path / "shop.py").write_text(
        "from flask import Flask\napp = Flask(__name__)\n"
        "app.config['SQLALCHEMY_DATABASE_URI'] = 'sqlite:///not-ours'\n"
    )
    (tmp_path / "a.txt").write_text("The kingfisher dives.")
    flask = [str(BIN / "flask"), "--app", "shop", "rag"]

    indexed = run([*flask, "index", str(tmp_path / "a.txt"), "--json"])
    assert (indexed.code, names(indexed.json()["indexed"])) == (0, ["a.txt"])
    found = run([*flask, "search", "Who dives?"])
    assert "a.txt, position 0" in found.out
    status = run([*flask, "status", "--json"])
    assert json.loads(status.out)["documents"] == 1
    run([*flask, "search", "x", "--dataset", "nowhere"]).failed_in_one_line(4)
    broken = run([str(BIN / "flask"), "--app", "nothing", "rag", "status"])
    assert (broken.code, "nothing" in broken.err) == (2, True)


def test_a_users_app_of_ours_is_the_one_that_is_used(
    environment: dict[str, str], template_database: str, tmp_path: Path
) -> None:
    """An application made by our factory with settings of its own brings those."""
    (tmp_path / "ours.py").write_text(
        "import os\nfrom shared.app_factory import create_app\n"
        f"os.environ['SQLALCHEMY_DATABASE_URI'] = {environment['SQLALCHEMY_DATABASE_URI']!r}\n"
        "app = create_app()\ndel os.environ['SQLALCHEMY_DATABASE_URI']\n"
    )
    ran = run(
        [str(BIN / "flask"), "--app", "ours", "rag", "status"],
        SQLALCHEMY_DATABASE_URI="",
        DB_PORT=str(free_port()),
    )

    assert "has no dataset" in ran.failed_in_one_line(4)
