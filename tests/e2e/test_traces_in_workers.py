"""Traces in real workers: nothing lost by kill -9 and a bad provider, nothing secret on show."""

import base64
import random
import threading
from collections import Counter

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.models import db
from shared.submitting.sealing import seal
from shared.submitting.trace_payload import checked_trace
from tests.fixtures.flower import StartFlower
from tests.fixtures.messages import Messages
from tests.fixtures.trace_deliveries import OpenTraces, Traces, numbered
from tests.fixtures.trace_receiver import (
    Answer,
    Asked,
    Step,
    TraceReceiver,
    cutting,
    hanging,
    partly,
    refusing,
    taken,
)
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker

QUICK = {
    "DELIVERY_LEASE_SECONDS": "5",
    "DELIVERY_MAX_DEATHS": "9",
    "SWEEP_SECONDS": "1",
    "OUTBOX_REDELIVERY_SECONDS": "1",
    "TRACE_TIMEOUT_SECONDS": "5",
    "TRACE_BATCH_TRACES": "10",
    "TRACE_BREAKER_SHORTEST_SECONDS": "0.2",
    "TRACE_BREAKER_LONGEST_SECONDS": "1",
}
#: What a bad provider does, each with its share; of some answers the spans are stored.
FAULTS: list[tuple[Step, float]] = [
    (refusing(429), 0.06),
    (refusing(503), 0.05),
    (refusing(503, Retry_After="1"), 0.01),
    (refusing(502), 0.02),
    (cutting(), 0.03),
    (cutting(takes=True), 0.03),
    (hanging(6), 0.01),
    (hanging(6, takes=True), 0.01),
]


def badly(seed: int, failed: Counter[Step]) -> Step:
    """Takes most requests, and does something else to the others; ``failed`` counts them."""
    dice, lock = random.Random(seed), threading.Lock()

    def answer(asked: Asked) -> Answer:
        with lock:
            (step,) = dice.choices(
                [taken, *(one for one, _ in FAULTS)],
                [1 - sum(share for _, share in FAULTS), *(share for _, share in FAULTS)],
            )
            failed[step] += step is not taken
        return step(asked)

    return answer


def statuses() -> Counter[str]:
    with Session(db.engine) as session:
        rows = session.execute(text("SELECT status, count(*) FROM trace_deliveries GROUP BY 1"))
        return Counter({row[0]: row[1] for row in rows})


def survive(
    traces: Traces, receiver: TraceReceiver, start_worker: StartWorker, count: int, kills: int
) -> None:
    """Send ``count`` traces of four spans; a worker is killed ``kills`` times on the way."""
    failed: Counter[Step] = Counter()
    receiver.always = badly(count, failed)
    given = numbered(count)
    expected = {one.span_id for each in given for one in checked_trace(each).spans}
    assert len(expected) == 4 * count
    traces.record(traces.config(), *given, announce=True)
    # What it has in hand when it is killed is sent again: of few tasks that is little.
    worker = start_worker("gevent", 2)
    for number in range(1, kills + 1):
        most = number * 4 * count // (kills + 1)
        eventually(lambda most=most: len(receiver.stored) >= most, 300)  # type: ignore[misc]
        worker.kill()
        worker = start_worker("prefork" if number % 2 else "gevent", 2)

    def is_done() -> bool:
        traces.sweep(grace_seconds=1)  # as beat does, every so often
        return statuses()["delivered"] == count

    eventually(is_done, 600, step=0.5)
    assert set(receiver.stored) == expected, "every span arrived, and under its own id"
    again = Counter(receiver.stored.values())
    print(  # noqa: T201 - the counts are what is to be seen
        f"{len(expected)} spans, {len(receiver.asked)} requests, {failed.total()} of them failed, "
        f"{kills} kills; spans by how often they were taken: {dict(sorted(again.items()))}"
    )
    assert again[1] > len(expected) / 2
    eventually(lambda: not Messages(traces.app).rows())
    assert Messages(traces.app).letters() == []


def test_under_faults_and_a_kill_every_span_arrives(
    open_traces: OpenTraces, trace_receiver: TraceReceiver, start_worker: StartWorker
) -> None:
    traces = open_traces(trace_receiver, **QUICK)
    survive(traces, trace_receiver, start_worker, count=125, kills=1)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_under_faults_and_two_kills_ten_thousand_spans_arrive(
    open_traces: OpenTraces, trace_receiver: TraceReceiver, start_worker: StartWorker
) -> None:
    traces = open_traces(trace_receiver, **QUICK)
    survive(traces, trace_receiver, start_worker, count=2500, kills=2)


def test_a_providers_secrets_show_nowhere_whatever_it_answers(
    open_traces: OpenTraces,
    trace_receiver: TraceReceiver,
    start_worker: StartWorker,
    start_flower: StartFlower,
    monkeypatch: pytest.MonkeyPatch,
    pytestconfig: pytest.Config,
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(pytestconfig.rootpath))
    traces = open_traces(trace_receiver, LOG_LEVEL="DEBUG", TRACE_BREAKER_SHORTEST_SECONDS="0.1")
    public, secret = "pk-lf-5a17", "sk-lf-c0ffee-482913"
    basic = base64.b64encode(f"{public}:{secret}".encode()).decode()
    echo = f"you sent {secret} as Basic {basic}"
    config = traces.config("langfuse", secrets={"public_key": public, "secret_key": secret})
    flower = start_flower()
    worker = start_worker("threads", 1, "-l", "DEBUG", "-E")
    eventually(lambda: flower.sees(worker.name))

    for step, status in (
        (refusing(401, echo), "failed"),
        (refusing(400, echo), "failed"),
        (partly(1, echo), "partial"),
    ):
        trace_receiver.always = step
        before = statuses()[status]
        number = sum(statuses().values())
        traces.record(config, *numbered(1, first=number), announce=True)
        eventually(lambda b=before, s=status: statuses()[s] == b + 1)  # type: ignore[misc]
    trace_receiver.steps += [refusing(503, echo), refusing(429, echo)]
    trace_receiver.always = taken
    traces.record(config, *numbered(1, first=50), announce=True)
    eventually(lambda: statuses()["delivered"] == 1)
    # A defect, and so a dead letter: secrets that are no object.
    key = traces.settings.application.secret_key
    traces.change(config, secrets=seal([public, secret], key))  # type: ignore[arg-type]
    traces.record(config, *numbered(1, first=60), announce=True)
    eventually(lambda: len(Messages(traces.app).letters()) == 1)

    assert trace_receiver.asked[0].headers["Authorization"] == f"Basic {basic}"
    eventually(lambda: "process_trace_task" in worker.output())
    eventually(lambda: any(one["state"] == "FAILURE" for one in flower.tasks().values()))
    pages = flower.everything(worker.name)
    assert "process_trace_task" in pages["/api/tasks"]
    shown = "\n".join([worker.output(), everything_written(traces), *pages.values()])
    assert "you sent ******** as Basic ********" in shown
    for hidden in (secret, basic):
        assert hidden not in shown


def everything_written(traces: Traces) -> str:
    """Every row of every table that says something of a task, and all there is in Redis."""
    redis = traces.app.extensions["redis"]
    tables = ("trace_deliveries", "trace_breakers", "trace_configs", "outbox", "dead_letters")
    with Session(db.engine) as session:
        rows = [
            str(tuple(bytes(one) if isinstance(one, memoryview) else one for one in row))
            for table in (*tables, "celery_taskmeta")
            for row in session.execute(text(f"SELECT * FROM {table}"))
        ]
    keys = [str((key, redis.dump(key))) for key in redis.scan_iter()]
    return "\n".join(rows + keys)
