"""The commands of the issue start as they stand, with nothing but environment variables."""

import base64
import json
import sys
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen
from uuid import UUID

import pytest
from celery.exceptions import QueueNotFound
from flask import Flask

from shared.contract import DOCUMENT_INDEXING
from tests.fixtures.application import Reader, Submit
from tests.fixtures.commands import Running, StartCommand
from tests.fixtures.waiting import eventually
from worker.cli.stack.children import free_port

CELERY = (str(Path(sys.executable).parent / "celery"), "-A", "worker.celery_app")
QUEUES = "dataset,generation,mail,ops_trace"
LOGIN = "somebody:a password: with colons"
EMPTY: dict[str, str] = {}


@pytest.fixture
def project(pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch, app: Flask) -> Flask:
    """The application; commands start in the project's folder, as on a developer's machine."""
    monkeypatch.setenv("PYTHONPATH", str(pytestconfig.rootpath))
    return app


@pytest.mark.parametrize("pool", [(), ("-P", "gevent", "-c", "100")], ids=["default", "gevent"])
def test_a_worker_starts_and_works(
    pool: tuple[str, ...],
    project: Flask,
    submit: Submit,
    reader: Reader,
    start_command: StartCommand,
) -> None:
    worker = start_command([*CELERY, "worker", *pool, "-Q", QUEUES])
    await_ready(project, worker)

    (submission,) = submit({"a.txt": b"The lighthouse was built in 1871."}, announce=True)
    (document,) = reader.await_end(submission.document_id)

    assert document.error is None
    assert document.total_segments == 1
    replies = project.extensions["celery"].control.inspect(timeout=300, limit=1).active_queues()
    (served,) = replies.values()
    assert [queue["name"] for queue in served] == QUEUES.split(",")


def test_beat_starts(project: Flask, start_command: StartCommand) -> None:
    beat = start_command([*CELERY, "beat"])

    redis = project.extensions["redis"]
    # Its schedule and its lock: it fires, and no second one does.
    eventually(lambda: bool(redis.exists("rag-worker:beat::lock")), 30)
    eventually(lambda: redis.zcard("rag-worker:beat::schedule") > 0, 30)
    assert beat.process.poll() is None


def test_flower_asks_for_the_password_and_knows_the_worker(
    project: Flask, start_command: StartCommand
) -> None:
    port = free_port()
    variables = {"FLOWER_BASIC_AUTH": LOGIN, "FLOWER_PORT": str(port)}
    flower = start_command([*CELERY, "flower"], **variables)
    worker = start_command([*CELERY, "worker", "-Q", QUEUES, "-P", "solo", "-n", "one@test"])
    await_ready(project, worker)
    url = f"http://127.0.0.1:{port}"

    eventually(lambda: status(url) is not None, 60)

    assert status(url) == 401
    assert status(url, "somebody:wrong") == 401
    assert status(url + "/api/workers") == 401
    assert status(url, LOGIN) == 200
    eventually(lambda: "one@test" in listed(url + "/api/workers?refresh=1"), 30)
    assert flower.process.poll() is None


def test_a_message_to_an_unknown_queue_is_an_error_at_publish(
    project: Flask, dataset_id: UUID
) -> None:
    celery = project.extensions["celery"]

    with pytest.raises(QueueNotFound, match="nobody_serves_this"):
        celery.send_task(
            DOCUMENT_INDEXING.name, args=[str(dataset_id), []], queue="nobody_serves_this"
        )

    assert project.extensions["redis"].keys("nobody*") == []


def await_ready(app: Flask, worker: Running) -> None:
    """Wait until the worker answers."""

    def answers() -> bool:
        assert worker.process.poll() is None, worker.output()
        return bool(app.extensions["celery"].control.ping(timeout=0.5))

    eventually(answers, 60)


def status(url: str, login: str = "") -> int | None:
    """The HTTP status of a page, ``None`` while nobody listens."""
    try:
        with urlopen(request(url, login), timeout=5) as answer:
            return int(answer.status)
    except HTTPError as error:
        return error.code
    except (URLError, OSError):
        return None


def listed(url: str) -> dict[str, object]:
    """The workers Flower lists."""
    with urlopen(request(url, LOGIN), timeout=300) as answer:
        workers: dict[str, object] = json.load(answer)
        return workers


def request(url: str, login: str) -> Request:
    """A request with basic authentication, where a login is given."""
    token = base64.b64encode(login.encode()).decode()
    return Request(url, headers={"Authorization": f"Basic {token}"} if login else EMPTY)
