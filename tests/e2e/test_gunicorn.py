"""The HTTP service under gunicorn, as its configuration file has it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from flask import Flask
from sqlalchemy import text

from shared.models import db
from tests.fixtures.metrics import parsed
from tests.fixtures.outbox_rows import Outbox
from tests.fixtures.waiting import eventually
from worker.cli.stack.children import free_port, kill_group, spawn

ROOT = Path(__file__).parents[2]
SECONDS = 300
REQUESTS = 20


@pytest.fixture
def service(
    app: Flask, environment: dict[str, str], tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    port = free_port()
    log = tmp_path / "gunicorn.log"
    process = spawn(
        [
            *(sys.executable, "-m", "gunicorn", "-c", str(ROOT / "gunicorn.conf.py")),
            "tests.fixtures.waiting_app:app",
        ],
        log=log,
        death_signal=signal.SIGKILL,
        env={
            **os.environ,
            **environment,
            "WEB_BIND": f"127.0.0.1:{port}",
            "WEB_CONCURRENCY": str(getattr(request, "param", 1)),
        },
        cwd=ROOT,
    )
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return httpx.get(f"{url}/livez", timeout=SECONDS).is_success
        except httpx.TransportError:
            return False

    eventually(answers)
    yield url, process
    kill_group(process)


def test_requests_that_wait_in_the_database_wait_beside_each_other(
    service: tuple[str, "subprocess.Popen[bytes]"],
) -> None:
    url, process = service
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE application_name = 'waiting_app' AND wait_event_type = 'Lock'"
    )
    with (
        ThreadPoolExecutor(REQUESTS) as threads,
        db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as holder,
    ):
        holder.execute(text("SELECT pg_advisory_lock(4711)"))
        try:
            asked = [
                threads.submit(httpx.get, f"{url}/wait", timeout=SECONDS) for _ in range(REQUESTS)
            ]
            # One worker process: were psycopg2 not patched, the first would hold up all others.
            eventually(lambda: holder.scalar(waiting) == REQUESTS)
            assert httpx.get(f"{url}/livez", timeout=SECONDS).json() == {"status": "ok"}
        finally:
            holder.execute(text("SELECT pg_advisory_unlock(4711)"))
        assert [one.result().json() for one in asked] == [{"done": True}] * REQUESTS

    assert httpx.get(f"{url}/readyz", timeout=SECONDS).json() == {"status": "ok", "problems": []}
    figures = httpx.get(f"{url}/metrics", timeout=SECONDS).text
    assert 'rag_worker_outbox_unpublished{queue="mail"} 0.0' in figures
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 0


@pytest.mark.parametrize("service", [3], indirect=True)
def test_each_of_several_processes_shows_the_same_figures(
    service: tuple[str, "subprocess.Popen[bytes]"], rows: Outbox
) -> None:
    url, process = service
    rows.fill(uuid4(), 7)
    answered, texts = set(), [""]

    def are_up() -> bool:  # asked again where the machine is too busy for an answer in time
        with httpx.Client(timeout=SECONDS) as client:
            texts.append(client.get(f"{url}/metrics").text)
        up = parsed(texts[-1]).all("dependency_up", "dependency")
        return up == {"database": 1, "broker": 1}

    for _ in range(20):  # a connection each: the kernel gives it to any of them
        eventually(are_up)
        text = texts[-1]
        answered.add(parsed(text).get("outbox_unpublished", queue="dataset"))
        assert "process_" not in text, "one process of three says nothing of the service"
        assert "rag_worker_tasks" not in text

    assert answered == {7}
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 0
