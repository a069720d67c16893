"""A worker that consumes nothing is named, and brought back; a busy or idle one is left alone."""

import json
import signal
from collections.abc import Callable

import psutil
import pytest
from flask import Flask
from redis import Redis
from sqlalchemy import func, update
from sqlalchemy.orm import Session

from shared.contract import PROBE, QUEUES
from shared.models import WorkerNode
from shared.queueing import outbox
from tests.e2e.delivery_tasks import BEGUN
from tests.fixtures.commands import RAG_WORKER, Ran, StartCommand, rag_worker
from tests.fixtures.pids import is_gone
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker, WorkerProcess
from worker.cli.stack.children import free_port

LOADED = ("-I", "tests.e2e.delivery_tasks")
#: A worker reports often, and nobody waits a minute and a half for the verdict.
QUICK = {"PRESENCE_SECONDS": "0.3", "WEDGED_SECONDS": "2"}
#: It reports, and leaves the verdict on itself to the probe.
WITHOUT_CURE = {"PRESENCE_SECONDS": "0.3", "WEDGED_SECONDS": "600"}
#: Who looks forgives a report that comes late on a busy machine.
PATIENT = {"PRESENCE_SECONDS": "20", "WEDGED_SECONDS": "2"}
SECONDS = 300
Node = Callable[[str], WorkerNode | None]


@pytest.fixture
def redis(app: Flask) -> Redis:
    client: Redis = app.extensions["redis"]
    return client


@pytest.fixture
def node(session: Session) -> Node:
    def read(name: str) -> WorkerNode | None:
        session.rollback()
        return session.get(WorkerNode, name, populate_existing=True)

    return read


def send_probe(app: Flask, queue: str = "dataset") -> None:
    app.extensions["celery"].send_task(PROBE.name, queue=queue)


def cut_off(app: Flask, worker: WorkerProcess) -> None:
    """Leave the worker connected, and consuming nothing."""
    control = app.extensions["celery"].control
    for queue in QUEUES:
        control.cancel_consumer(queue, destination=[worker.name], reply=True, timeout=10)

    def consumes_nothing() -> bool:
        queues = control.inspect([worker.name], timeout=2).active_queues() or {}
        return queues.get(worker.name) == []

    eventually(consumes_nothing, SECONDS)


def health(*arguments: str, **variables: str) -> Ran:
    return rag_worker("health", *arguments, **{**PATIENT, **variables})


def await_wedged(name: str) -> Ran:
    def named() -> bool:
        nonlocal ran
        ran = health()
        return f"worker {name} is wedged" in ran.err

    ran = health()
    eventually(named, SECONDS)
    return ran


def test_an_idle_worker_and_one_that_is_full_are_healthy(
    app: Flask, redis: Redis, session: Session, node: Node, start_worker: StartWorker
) -> None:
    worker = start_worker("prefork", 1, *LOADED, **QUICK)
    eventually(lambda: node(worker.name) is not None, SECONDS)
    assert (health().code, health().err) == (0, "")

    outbox.write(session, "tests.steps", ["long", 10_000], celery=app.extensions["celery"])
    session.commit()
    eventually(lambda: redis.llen(BEGUN) == 1, SECONDS)
    eventually(lambda: node(worker.name).busy == 1, SECONDS)
    send_probe(app)
    long_ago = func.now() - func.make_interval(0, 0, 0, 0, 1)
    session.execute(update(WorkerNode).values(unserved_since=long_ago, started_at=long_ago))
    session.commit()
    # Its own reports go on saying that it is full.
    eventually(lambda: node(worker.name).unserved_since is None, SECONDS)

    ran = health("--json")
    assert (ran.code, ran.err) == (0, "")
    (shown,) = ran.json()["workers"]
    assert (shown["name"], shown["busy"]) == (worker.name, 1)
    assert ran.json()["queues"]["dataset"] == 1
    # A report that comes late on a busy machine makes it silent for a moment.
    eventually(lambda: health("--worker").out == f"worker {worker.name} is live\n", SECONDS)
    assert "worker starts anew" not in worker.output()


def test_a_worker_that_consumes_nothing_is_named_and_ended_by_the_probe(
    app: Flask, redis: Redis, node: Node, start_worker: StartWorker
) -> None:
    worker = start_worker("prefork", 2, **WITHOUT_CURE)
    cut_off(app, worker)
    assert health("--worker").code == 0, "nothing waits: it could not do more"
    send_probe(app)

    ran = await_wedged(worker.name)

    assert ran.code == 6
    assert "queue dataset holds 1 and no live worker takes any" in ran.err
    assert worker.process.poll() is None, "it only looks"
    ran = health("--worker", "--restart")
    assert ran.code == 6
    assert f"worker {worker.name} has ended after SIGTERM" in ran.err
    assert worker.process.wait(SECONDS) == 0
    eventually(lambda: node(worker.name) is None, SECONDS)
    after = health("--worker").failed_in_one_line(6)
    assert "no worker has reported" in after


@pytest.mark.parametrize("pool", ["prefork", pytest.param("gevent", marks=pytest.mark.long)])
def test_a_worker_that_notices_it_consumes_nothing_starts_itself_anew(
    pool: str, app: Flask, redis: Redis, start_worker: StartWorker
) -> None:
    worker = start_worker(pool, 2, **QUICK)
    children = psutil.Process(worker.pid).children(recursive=True)
    cut_off(app, worker)
    send_probe(app)

    eventually(lambda: redis.llen("dataset") == 0, SECONDS)

    assert worker.process.poll() is None, "in place: whoever supervises it need not notice"
    assert "the worker starts anew: it took nothing for" in worker.output()
    eventually(lambda: all(is_gone(child.pid) for child in children), SECONDS)
    eventually(lambda: health("--worker").code == 0, SECONDS)


@pytest.mark.long
def test_a_frozen_worker_is_killed_with_its_children_and_comes_back_by_its_supervisor(
    app: Flask, redis: Redis, start_worker: StartWorker
) -> None:
    worker = start_worker("prefork", 2, **WITHOUT_CURE)
    children = psutil.Process(worker.pid).children(recursive=True)
    worker.process.send_signal(signal.SIGSTOP)
    # The broker hands the first to the read that the frozen worker has left open.
    for _ in range(2):
        send_probe(app)

    await_wedged(worker.name)
    ran = health("--worker", "--restart")

    assert ran.code == 6
    assert f"worker {worker.name} was killed" in ran.err
    eventually(lambda: all(is_gone(child.pid) for child in children), SECONDS)
    assert worker.process.wait(SECONDS) == -signal.SIGKILL
    ran = health("--worker", worker.name)
    assert (ran.code, "is lost" in ran.err) == (6, True)


def test_messages_that_nobody_takes_are_a_problem(app: Flask) -> None:
    assert health().code == 0
    send_probe(app, "mail")

    ran = health("--json")

    assert ran.code == 6
    problem, *notes = ran.err.splitlines()
    assert problem == "rag-worker: queue mail holds 1 and no live worker takes any"
    assert "rag-worker: no worker serves the queue dataset" in notes
    assert not any("mail" in one for one in notes), "said once"
    shown = json.loads(ran.out)
    assert (shown["healthy"], shown["queues"]["mail"]) == (False, 1)


def test_servers_that_do_not_answer_are_a_line_each_and_no_reason_to_end_a_worker(
    environment: dict[str, str],
) -> None:
    port = free_port()
    away = {
        "SQLALCHEMY_DATABASE_URI": f"postgresql://u:hush@127.0.0.1:{port}/x",
        "CELERY_BROKER_URL": f"redis://:hush@127.0.0.1:{port}/0",
    }

    ran = health(**away)
    probed = health("--worker", "--restart", **away)

    assert (ran.code, probed.code) == (5, 0)
    lines = ran.err.splitlines()
    assert ["broker does not answer" in lines[0], "database does not" in lines[1]] == [True] * 2
    assert len(lines) == 2
    assert "hush" not in ran.err + ran.out


def test_restart_needs_a_worker_to_restart(environment: dict[str, str]) -> None:
    assert health("--restart").code == 2


def test_up_starts_a_worker_again_that_died(start_command: StartCommand) -> None:
    up = start_command([RAG_WORKER, "up"])
    up.await_output("Ready. In another terminal", 100)

    first = _worker_of(up.process.pid)
    first.kill()
    up.await_output("worker ended by itself: starting it again")
    eventually(lambda: _worker_of(up.process.pid).pid != first.pid, SECONDS)
    eventually(lambda: rag_worker("health", "--worker").code == 0, SECONDS)

    assert up.end(signal.SIGTERM) == 0


def _worker_of(pid: int) -> psutil.Process:
    def found() -> list[psutil.Process]:
        children = psutil.Process(pid).children()
        return [one for one in children if "rag-worker@%h" in _command(one)]

    eventually(lambda: bool(found()), SECONDS)
    return found()[0]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
