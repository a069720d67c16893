"""The probes of a container: is this worker alive, is it ready; answered whatever hangs."""

import signal
import socket
import time
from collections.abc import Iterator

import pytest
from flask import Flask

from shared.contract import QUEUES
from tests.fixtures.commands import Ran, rag_worker
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker, WorkerProcess
from worker.cli.stack.children import free_port

#: Nobody waits a third of a minute for the verdict; busy machines give signs late.
QUICK = {"LIVE_SECONDS": "4"}
SECONDS = 300


def health(*arguments: str, **variables: str) -> Ran:
    return rag_worker("health", *arguments, **{**QUICK, **variables})


def ready(*arguments: str, **variables: str) -> Ran:
    # The machine of a test may be busy; what answers, answers long before that.
    return health("--ready", "--timeout", "5", *arguments, **variables)


def await_sign(worker: WorkerProcess) -> None:
    def consumes() -> bool:
        return health("--live").code == 0 and ready().code == 0

    eventually(consumes, SECONDS, step=0.5)


@pytest.fixture
def black_hole() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as silent:
        yield silent.getsockname()[1]


@pytest.mark.parametrize("pool", ["prefork", "gevent"])
def test_a_worker_that_consumes_is_alive_and_ready_until_it_is_frozen_or_killed(
    pool: str, app: Flask, start_worker: StartWorker
) -> None:
    assert "no worker gives a sign of life in" in health("--live").failed_in_one_line(6)
    worker = start_worker(pool, 2, **QUICK)
    await_sign(worker)

    assert health("--live") == Ran(0, f"worker {worker.name} is alive\n", "")
    assert ready("--worker", worker.name) == Ran(
        0, f"worker {worker.name} consumes {', '.join(QUEUES)}\n", ""
    )
    assert health("--live", "--worker", "other@host").code == 6

    worker.process.send_signal(signal.SIGSTOP)
    eventually(lambda: "gave no sign of life for" in health("--live").err, SECONDS)
    assert ready().failed_in_one_line(6).endswith(f"worker {worker.name} is not alive")
    worker.process.send_signal(signal.SIGCONT)
    eventually(lambda: health("--live").code == 0, SECONDS)
    worker.kill()
    worker.process.wait(SECONDS)
    gone = health("--live").failed_in_one_line(6)
    assert gone.endswith(f"worker {worker.name} is gone: process {worker.pid} has ended")


def test_a_worker_that_was_told_to_stop_takes_its_sign_away(
    app: Flask, start_worker: StartWorker
) -> None:
    worker = start_worker("solo", 1)
    await_sign(worker)
    assert worker.terminate() == 0
    assert "no worker gives a sign of life" in health("--live").failed_in_one_line(6)


def test_a_frozen_worker_is_ended_when_the_probe_is_told_to(
    app: Flask, start_worker: StartWorker
) -> None:
    worker = start_worker("prefork", 1, **QUICK)
    await_sign(worker)
    assert health("--live", "--restart").code == 0
    worker.process.send_signal(signal.SIGSTOP)
    eventually(lambda: health("--live").code == 6, SECONDS)
    assert worker.process.poll() is None, "it only looks"

    ended = health("--live", "--restart")

    assert (ended.code, f"worker {worker.name} was killed" in ended.err) == (6, True)
    assert worker.process.wait(SECONDS) == -signal.SIGKILL


def test_a_queue_it_does_not_consume_is_named(app: Flask, start_worker: StartWorker) -> None:
    worker = start_worker("prefork", 1)
    await_sign(worker)
    app.extensions["celery"].control.cancel_consumer("mail", destination=[worker.name])

    eventually(lambda: ready().code == 6, SECONDS)

    assert ready().failed_in_one_line(6).endswith(f"worker {worker.name} does not consume mail")
    assert health("--live").code == 0


def test_servers_that_are_black_holes_cost_no_more_than_the_timeout(
    app: Flask, start_worker: StartWorker, black_hole: int
) -> None:
    worker = start_worker("solo", 1, **QUICK)
    await_sign(worker)
    away = {
        "SQLALCHEMY_DATABASE_URI": f"postgresql://u:hush@127.0.0.1:{black_hole}/x",
        "CELERY_BROKER_URL": f"redis://:hush@127.0.0.1:{black_hole}/0",
        "REDIS_URL": f"redis://:hush@127.0.0.1:{black_hole}/0",
        # Without the probe's own end it would be waited for so long.
        "REDIS_SOCKET_TIMEOUT_SECONDS": "60",
        "DB_CONNECT_TIMEOUT_SECONDS": "60",
    }
    began = time.monotonic()
    ran = health("--ready", **away)
    seconds = time.monotonic() - began

    assert ran.code == 5
    assert ran.err.splitlines() == [
        "rag-worker: the database does not answer within 0.3 s",
        "rag-worker: the broker does not answer within 0.3 s",
    ]
    assert seconds < 50, "on an idle machine it is one"
    assert health("--live", **away).code == 0, "a restart brings no server back"


def test_servers_that_refuse_are_a_line_each_without_a_password(app: Flask) -> None:
    port = free_port()
    ran = ready(
        SQLALCHEMY_DATABASE_URI=f"postgresql://u:hush@127.0.0.1:{port}/x",
        CELERY_BROKER_URL=f"redis://:hush@127.0.0.1:{port}/0",
        REDIS_URL=f"redis://:hush@127.0.0.1:{port + 1}/0",
    )
    assert ran.code == 5
    whats = [line.partition(" does not answer: ")[0] for line in ran.err.splitlines()[:3]]
    assert whats == ["rag-worker: the database", "rag-worker: the broker", "rag-worker: Redis"]
    assert "hush" not in ran.err + ran.out


def test_what_cannot_be_meant_is_refused(environment: dict[str, str]) -> None:
    assert health("--live", "--ready").code == 2
    assert health("--ready", "--restart").code == 2
    assert "LIVE_SECONDS" in health("--live", LIVE_SECONDS="soon").failed_in_one_line(3)


def test_a_queue_without_a_worker_is_named_at_its_start_and_by_health(
    app: Flask, start_worker: StartWorker
) -> None:
    worker = start_worker("solo", 1, "-Q", "dataset")
    others = [queue for queue in QUEUES if queue != "dataset"]

    eventually(lambda: f"no worker serves so far: {', '.join(others)}" in worker.output(), SECONDS)
    named = health()
    assert named.code == 0, "they are empty"
    assert named.err.splitlines() == [
        f"rag-worker: no worker serves the queue {queue}" for queue in others
    ]
