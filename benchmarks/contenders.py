"""Processes that index beside rag-worker: the frameworks of ``benchmarks/peers``, the bare parts.

A contender has two processes, as rag-worker's worker has, each with every other file. They have
loaded all that they need before a turn begins and wait while others have theirs.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg2
from sqlalchemy import make_url

PROCESSES = 2
PEERS = Path(__file__).parent / "peers"
_PYTHON = PEERS / ".venv" / "bin" / "python"
FRAMEWORKS = {
    "LangChain": "langchain_peer.py",
    "LlamaIndex": "llamaindex_peer.py",
    "Haystack": "haystack_peer.py",
}
FLOOR = "bare parts, 2 processes"


@dataclass(frozen=True, slots=True)
class Took:
    """What a turn took.

    Attributes:
        seconds: until the last process was done.
        busy_seconds: of a processor, in the contender's own processes.
        segments: written in this turn.
        peak_bytes: the most memory that its processes ever had, together.
    """

    seconds: float
    busy_seconds: float
    segments: int
    peak_bytes: int


class Contender:
    """Processes that take turns."""

    def __init__(self, name: str, processes: Sequence["subprocess.Popen[str]"], logs: Path) -> None:
        self._name = name
        self._processes = processes
        self._logs = logs
        self._tables: set[str] = set()
        self._is_ready = False

    def index(self, files: Sequence[Path], table: str) -> Took:
        """Bring files into an index; those that it has already are checked for changes.

        Raises:
            RuntimeError: a process ended.
        """
        try:
            return self._indexed(files, f"{self._name.split()[0].lower()}_{table}")
        except (RuntimeError, OSError) as error:
            last = [log.read_text("utf-8")[-1500:] for log in sorted(self._logs.iterdir())]
            raise RuntimeError("\n".join([f"{self._name}: {error}", *last])) from error

    def _indexed(self, files: Sequence[Path], table: str) -> Took:
        if not self._is_ready:
            for process in self._processes:
                _line(process)
            self._is_ready = True
        if table not in self._tables:
            # One after the other: frameworks that make a table at once get in each other's way.
            for process in self._processes:
                _ask(process, [], table)
                _line(process)
            self._tables.add(table)
        began = time.perf_counter()
        for number, process in enumerate(self._processes):
            _ask(process, files[number :: len(self._processes)], table)
        answers = [json.loads(_line(process)) for process in self._processes]
        return Took(
            time.perf_counter() - began,
            sum(one["busy"] for one in answers),
            sum(one["segments"] for one in answers),
            sum(one["peak_bytes"] for one in answers),
        )


@contextmanager
def contender(
    name: str, uri: str, embedding_url: str | None = None, processes: int = PROCESSES
) -> Iterator[Contender]:
    """Start a contender; its first turn waits until it is ready.

    Args:
        name: of ``FRAMEWORKS``, or ``FLOOR``.
        uri: the database, as SQLAlchemy names it.
        embedding_url: a server of OpenAI's protocol; without it WordLlama in the process.
        processes: which share the files.
    """
    if name == FLOOR:
        command, folder = [sys.executable, "-m", "benchmarks.bare_parts"], PEERS.parents[1]
    else:
        command, folder = [str(_PYTHON), FRAMEWORKS[name]], PEERS
        if not _PYTHON.exists():
            raise RuntimeError("the frameworks are not installed: `make bench` does it")
    # What the frameworks are told and what they would ask the network for.
    environment = os.environ | {
        "PEERS_URI": uri.replace("postgresql+psycopg2", "postgresql"),
        "HAYSTACK_TELEMETRY_ENABLED": "False",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if embedding_url:
        environment["EMBEDDING_URL"] = embedding_url
    with ExitStack() as ended:
        logs = Path(ended.enter_context(tempfile.TemporaryDirectory()))
        started = [
            ended.enter_context(
                subprocess.Popen(
                    command,
                    cwd=folder,
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=ended.enter_context((logs / f"{number}.log").open("w")),
                    text=True,
                )
            )
            for number in range(processes)
        ]
        for process in started:
            ended.callback(process.kill)
        yield Contender(name, started, logs)


def _ask(process: "subprocess.Popen[str]", files: Sequence[Path], table: str) -> None:
    assert process.stdin
    process.stdin.write(json.dumps({"files": [*map(str, files)], "table": table}) + "\n")
    process.stdin.flush()


def _line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{process.args!r} ended with {process.wait()}")
    return line


def material(folder: Path, pages: int, pdfs: int, pdf_pages: int) -> list[Path]:
    """Write the files that are indexed; see ``benchmarks/peers/material.py``."""
    folder.mkdir()
    counts = ("--pages", pages, "--pdfs", pdfs, "--pdf-pages", pdf_pages)
    command = [_PYTHON, "material.py", folder, *counts]
    subprocess.run(list(map(str, command)), cwd=PEERS, check=True)
    return sorted(folder.iterdir())


@contextmanager
def database(uri: str, name: str) -> Iterator[str]:
    """A new database beside another, with pgvector; gone afterwards."""
    url = make_url(uri)
    made = url.set(database=name)

    def run(database: str | None, *statements: str) -> None:
        connection = psycopg2.connect(
            host=url.host,
            port=url.port,
            user=url.username,
            password=url.password,
            dbname=database,
        )
        connection.autocommit = True
        with connection.cursor() as cursor:
            for one in statements:
                cursor.execute(one)
        connection.close()

    run(url.database, f"CREATE DATABASE {name}")
    try:
        run(name, "CREATE EXTENSION vector")
        yield made.render_as_string(hide_password=False)
    finally:
        run(url.database, f"DROP DATABASE {name} WITH (FORCE)")
