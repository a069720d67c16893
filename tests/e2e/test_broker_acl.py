"""A broker's user that may do what docs/deployment.md lists, and nothing else."""

import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
from flask import Flask
from redis import Redis

from tests.fixtures.application import Reader, Submit
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker
from worker.cli.stack.children import kill_group, spawn

GUIDE = Path(__file__).parents[2] / "docs" / "deployment.md"


@pytest.fixture
def admin(app: Flask) -> Iterator[Redis]:
    client: Redis = app.extensions["redis"]
    client.execute_command("ACL", "LOG", "RESET")
    rules = re.search(r"^ACL SETUSER rag-worker (.+)$", GUIDE.read_text(), re.MULTILINE)
    assert rules is not None
    words = rules[1].replace("PASSWORD", "secret").split()
    client.execute_command("ACL", "SETUSER", "rag-worker", "reset", *words)
    yield client
    client.execute_command("ACL", "DELUSER", "rag-worker")


def as_user(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"rag-worker:secret@{parts.hostname}:{parts.port}"))


def test_worker_and_beat_do_their_work_with_the_rights_of_the_guide(
    admin: Redis,
    environment: dict[str, str],
    submit: Submit,
    reader: Reader,
    start_worker: StartWorker,
    tmp_path: Path,
) -> None:
    servers = {name: as_user(environment[name]) for name in ("REDIS_URL", "CELERY_BROKER_URL")}
    start_worker("prefork", 1, **servers)
    beat = spawn(
        [sys.executable, "-m", "celery", "-A", "worker.celery_app", "beat", "--pidfile="],
        log=tmp_path / "beat.log",
        death_signal=signal.SIGKILL,
        env={**os.environ, **environment, **servers},
        cwd=tmp_path,
    )
    try:
        (document,) = submit({"a.txt": b"The heron stands in the reeds."})
        eventually(lambda: reader.document(document.document_id).indexing_status == "completed", 60)
        eventually(lambda: bool(admin.exists("rag-worker:beat::lock")), 40)
    finally:
        kill_group(beat)

    denied = admin.execute_command("ACL", "LOG")
    assert [one for one in denied if b"rag-worker" in str(one).encode()] == []
    with Redis.from_url(servers["REDIS_URL"]) as limited:
        for command in ("FLUSHALL", "CONFIG GET *", "KEYS *", "SHUTDOWN"):
            with pytest.raises(Exception, match=r"NOPERM|no permissions"):
                limited.execute_command(*command.split())
