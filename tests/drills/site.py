"""A small installation as an operator has it: servers, a provider, workers, the commands."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from uuid import uuid4

from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine, NullPool, create_engine, text

from shared.contract import QUEUES
from tests.fixtures.commands import RAG_WORKER, Ran, run
from tests.fixtures.embedding_server import DIMENSION, KEY, Asked, EmbeddingServer, well
from tests.fixtures.waiting import eventually
from worker.cli.stack.children import free_port, kill_group, spawn
from worker.cli.stack.postgres import EmbeddedPostgres
from worker.cli.stack.valkey import EmbeddedValkey

ROOT = Path(__file__).parents[2]
READY_SECONDS = 90
_ANSWER_SECONDS = 0.15
_SERIOUS = {"WARNING", "ERROR", "CRITICAL"}


class CannotBeDrilled(Exception):
    """This machine lacks what the fault needs."""


@contextlib.contextmanager
def small_disk(path: Path, megabytes: int) -> Iterator[None]:
    """A file system of its own at ``path``.

    Raises:
        CannotBeDrilled: nobody but root may mount one.
    """
    path.mkdir(parents=True, exist_ok=True)
    options = f"size={megabytes}m,mode=0755"
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotBeDrilled(f"a small file system cannot be mounted: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@dataclass
class Site:
    """All of it; use it from the main thread."""

    folder: Path
    postgres: EmbeddedPostgres
    valkey: EmbeddedValkey
    provider: EmbeddingServer
    workers: "dict[str, subprocess.Popen[bytes]]" = field(default_factory=dict)
    metrics_port: int = field(default_factory=free_port)

    @cached_property
    def _engine(self) -> Engine:
        return create_engine(self.postgres.uri, poolclass=NullPool)

    @property
    def storage(self) -> Path:
        """Where files are."""
        return self.folder / "storage"

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be read anywhere."""
        addresses = (self.postgres.uri, self.valkey.url)
        passwords = [re.search(r":([^:@/]+)@", address) for address in addresses]
        return (KEY, *(found[1] for found in passwords if found))

    @property
    def variables(self) -> dict[str, str]:
        """The environment of its processes: defaults but for addresses."""
        return {
            "SQLALCHEMY_DATABASE_URI": self.postgres.uri,
            "REDIS_URL": self.valkey.url,
            "CELERY_BROKER_URL": self.valkey.url,
            "STORAGE_URL": f"file://{self.storage}",
            "RAG_WORKER_DATA_DIR": str(self.folder / "data"),
            "EMBEDDING_PROVIDER": "openai_compatible",
            "EMBEDDING_MODEL": "drill",
            "EMBEDDING_BASE_URL": self.provider.url,
            "EMBEDDING_API_KEY": KEY,
            "EMBEDDING_DIMENSIONS": str(DIMENSION),
            "EMBEDDING_CONCURRENCY": "2",
        }

    def command(self, *arguments: object) -> Ran:
        """Run ``rag-worker``."""
        return run([RAG_WORKER, *map(str, arguments)], **self.variables)

    def index(self, count: int) -> Ran:
        """Hand in so many new documents, as a producer does."""
        made = self.folder / "documents" / uuid4().hex[:8]
        made.mkdir(parents=True)
        for number in range(count):
            lines = (f"{uuid4().hex} valve pump filter {line}.\n\n" for line in range(400))
            (made / f"{number}.txt").write_text("".join(lines))
        return self.command("index", "--no-wait", "--dataset", "drill", made)

    def start_worker(self, name: str, *, measured: bool = False, **variables: str) -> None:
        """Start a worker of two processes and wait until it is ready."""
        log = self.folder / f"{name}.log"
        own = {"METRICS_PORT": str(self.metrics_port)} if measured else {}
        self.workers[name] = spawn(
            [
                *(sys.executable, "-m", "celery", "-A", "worker.celery_app", "worker"),
                *("-l", "INFO", "-c", "2", "-Q", ",".join(QUEUES), "-n", f"{name}@drill"),
            ],
            log=log,
            death_signal=signal.SIGKILL,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                **self.variables,
                "LOG_FORMAT": "json",
                **own,
                **variables,
            },
            cwd=self.folder,
        )
        eventually(lambda: " ready." in log.read_text(errors="replace"), READY_SECONDS)

    def statuses(self) -> dict[str, int]:
        """How many documents are in each status, read past everything that is drilled."""
        query = text("SELECT indexing_status AS status, count(*) FROM documents GROUP BY 1")
        with self._engine.connect() as connection:
            return {status: number for status, number in connection.execute(query)}  # noqa: C416

    def segments_twice(self) -> int:
        """Passages of a document's serving version that stand twice at one position."""
        query = text("""
            SELECT count(*) FROM (
                SELECT 1 FROM document_segments JOIN documents
                  ON documents.id = document_segments.document_id
                 AND documents.active_version = document_segments.version
                GROUP BY documents.id, document_segments.position HAVING count(*) > 1
            ) AS doubled
        """)
        with self._engine.connect() as connection:
            return int(connection.scalar(query) or 0)

    def metrics(self) -> dict[str, float]:
        """What the measured worker shows, by the series' full name."""
        url = f"http://127.0.0.1:{self.metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            exposed = answer.read().decode()
        found = {}
        for family in text_string_to_metric_families(exposed):
            for sample in family.samples:
                labels = ",".join(f'{key}="{value}"' for key, value in sample.labels.items())
                found[sample.name + (f"{{{labels}}}" if labels else "")] = sample.value
        return found

    def log_sizes(self) -> dict[str, int]:
        """How long each worker's log is now."""
        return {name: (self.folder / f"{name}.log").stat().st_size for name in self.workers}

    def serious_lines(self, since: dict[str, int]) -> Counter[str]:
        """Warnings and worse of all workers; lines that differ in figures only count as one."""
        lines: dict[str, str] = {}
        found: Counter[str] = Counter()
        for name in self.workers:
            with (self.folder / f"{name}.log").open("rb") as log:
                log.seek(since.get(name, 0))
                for raw in log:
                    with contextlib.suppress(ValueError, TypeError):
                        entry = json.loads(raw)
                        level = entry.get("level") or entry.get("levelname")
                        if level not in _SERIOUS:
                            continue
                        line = f"{level} {str(entry['message']).splitlines()[0]}"
                        shape = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|\d+(\.\d+)?", "#", line)
                        found[lines.setdefault(shape, line)] += 1
        return found

    def everything_written(self) -> str:
        """All logs."""
        logs = (self.folder / f"{name}.log" for name in self.workers)
        return "".join(log.read_text(errors="replace") for log in logs)


@contextlib.contextmanager
def started_site(folder: Path, *, database_disk: int = 0, storage_disk: int = 0) -> Iterator[Site]:
    """Servers and tables; disks of so many megabytes where they shall be small.

    Raises:
        CannotBeDrilled: this machine lacks what that needs.
    """
    with contextlib.ExitStack() as stack:
        if database_disk:
            stack.enter_context(small_disk(folder / "postgres", database_disk))
        if storage_disk:
            stack.enter_context(small_disk(folder / "storage", storage_disk))
        postgres = stack.enter_context(EmbeddedPostgres(folder / "postgres"))
        valkey = stack.enter_context(EmbeddedValkey(folder / "valkey"))
        provider = EmbeddingServer()
        stack.callback(provider.close)
        provider.always = unhurried
        site = Site(folder, postgres, valkey, provider)
        done = site.command("db", "upgrade")
        assert done.code == 0, done.err
        try:
            yield site
        finally:
            for process in site.workers.values():
                kill_group(process)


def unhurried(asked: Asked) -> object:
    """What the provider answers, after the time that one takes."""
    time.sleep(_ANSWER_SECONDS)
    return well(asked)
