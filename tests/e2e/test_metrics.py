"""Real workers, scraped: every end of a task is counted once, in every pool."""

import os
import signal
from collections.abc import Callable
from uuid import UUID, uuid4

import psutil
import pytest
from flask import Flask
from sqlalchemy.orm import Session

import tests.fixtures.probe_tasks as probes
from shared.models import Dataset
from tests.fixtures.application import Reader, Submit
from tests.fixtures.metrics import Scrape, scrape
from tests.fixtures.outbox_rows import Outbox
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker, WorkerProcess
from worker.cli.stack.children import free_port

Start = Callable[..., tuple[WorkerProcess, int]]


@pytest.fixture
def start(start_worker: StartWorker, pytestconfig: pytest.Config) -> Start:
    """Starts a worker that knows the probe tasks; returns its metrics' port too."""

    def start_measured(pool: str, *arguments: str, **variables: str) -> tuple[WorkerProcess, int]:
        port = free_port()
        worker = start_worker(
            pool, 2, "-I", "tests.fixtures.probe_tasks", *arguments,
            **{"PYTHONPATH": str(pytestconfig.rootpath), "METRICS_PORT": str(port)} | variables,
        )  # fmt: skip
        return worker, port

    return start_measured


def ends(port: int, task: str) -> dict[str, float]:
    return scrape(port).all("tasks_total", "state", task=f"probe.{task}")


def settled(port: int, expected: dict[str, dict[str, float]]) -> Scrape:
    """Wait for the counts, and return the scrape that shows them."""
    seen: list[Scrape] = []

    def has_them() -> bool:
        seen.append(scrape(port))
        return expected == {
            task: seen[-1].all("tasks_total", "state", task=f"probe.{task}") for task in expected
        }

    try:
        eventually(has_them, 60)
    except AssertionError:
        assert expected == {task: ends(port, task) for task in expected}
    return seen[-1]


@pytest.mark.parametrize("pool", ["prefork", "gevent", "threads", "solo"])
def test_every_end_is_counted_once(pool: str, start: Start, rows: Outbox) -> None:
    _, port = start(pool)
    tenant_id = uuid4()
    for number in range(7):
        probes.quiet.delay(f"quiet {number}")
    rows.fill(tenant_id, 5, task="probe.quiet")
    for number in range(2):
        probes.permanent.delay(f"permanent {number}")
        probes.superseded.delay(f"superseded {number}")
    probes.defect.delay("defect")
    probes.hopeless.delay("hopeless")
    probes.transient.delay("transient", 0.01)
    probes.answers_celery.delay("ignored", "ignore")
    probes.quiet.apply_async(("expired",), expires=-1)

    seen = settled(
        port,
        {
            "quiet": {"succeeded": 12, "revoked": 1},
            "permanent": {"failed": 2},
            "superseded": {"superseded": 2},
            "defect": {"failed": 1},
            "hopeless": {"retried": 2, "failed": 1},
            "transient": {"retried": 1, "succeeded": 1},
            "answers_celery": {"ignored": 1},
        },
    )
    timed = seen.all("task_duration_seconds_count", "task", queue="dataset")
    assert timed["probe.quiet"] == 12
    assert timed["probe.permanent"] == 2
    assert timed["probe.hopeless"] == 3
    assert "probe.superseded" not in timed, "what did nothing took no time worth a mention"
    assert seen.get("tenant_tasks_total", tenant=str(tenant_id), state="succeeded") == 5
    assert seen.all("tasks_running", "task").keys() <= {"rag_worker.sweep"}


def children_of(worker: WorkerProcess) -> set[int]:
    return {child.pid for child in psutil.Process(worker.pid).children()}


def test_a_killed_child_and_recycled_ones_take_no_count_with_them(
    start: Start, rows: Outbox, app: Flask
) -> None:
    worker, port = start("prefork", "--max-tasks-per-child", "3")
    for number in range(20):
        probes.quiet.delay(f"before {number}")
    settled(port, {"quiet": {"succeeded": 20}})

    held = probes.gated.delay("victim")
    redis = app.extensions["redis"]
    eventually(lambda: redis.exists("probe:victim") == 1, 30)
    inspect = app.extensions["celery"].control.inspect(timeout=5, limit=1)
    (victim,) = {
        request["worker_pid"]
        for requests in inspect.active().values()
        for request in requests
        if request["id"] == held.id
    }
    assert scrape(port).get("tasks_running", task="probe.gated", queue="dataset") == 1
    assert victim in children_of(worker)
    os.kill(victim, signal.SIGKILL)
    redis.rpush("gate:victim", "open", "open", "open")

    # Lost once; the message that comes back gets a row, and is run from there.
    seen = settled(
        port,
        {"quiet": {"succeeded": 20}, "gated": {"lost": 1, "handed_back": 1, "succeeded": 1}},
    )
    assert seen.get("children_died_total") == 1
    for number in range(20):
        probes.quiet.delay(f"after {number}")
    settled(port, {"quiet": {"succeeded": 40}})


@pytest.mark.parametrize("pool", ["prefork", "gevent"])
def test_what_tasks_embed_is_counted_by_tenant(
    pool: str, start: Start, submit: Submit, reader: Reader, session: Session, dataset_id: UUID
) -> None:
    # A child for each document: what they count is the worker's.
    _, port = start(pool, "--max-tasks-per-child", "1")
    files = {f"{number}.txt": f"Lamp {number} turns slowly.".encode() for number in range(4)}
    documents = reader.await_end(*(one.document_id for one in submit(files, announce=True)))
    tokens = sum(document.tokens for document in documents)
    tenant = str(session.get_one(Dataset, dataset_id).tenant_id)

    assert tokens > 0
    eventually(
        lambda: (
            scrape(port).all("embedding_tokens_total", "model", "tenant")
            == {("wordllama/l2_supercat_256", tenant): tokens}
        ),
        20,
    )
    assert scrape(port).get("documents", status="completed") in {None, 0, 4}
    eventually(lambda: scrape(port).get("documents", status="completed") == 4, 90)


def test_workers_of_one_host_each_have_a_port(start: Start, rows: Outbox) -> None:
    _, port = start("threads")
    second, _ = start("threads", "--loglevel", "INFO", METRICS_PORT=str(port))
    eventually(lambda: "metrics at 127.0.0.1:" in second.output(), 20)
    rows.fill(uuid4(), 60)
    rows.change("SELECT pg_notify('rag_worker_outbox', '')")

    def done() -> list[float]:
        return [ends(one, "quiet").get("succeeded", 0) for one in range(port, port + 2)]

    eventually(lambda: sum(done()) == 60, 60)
