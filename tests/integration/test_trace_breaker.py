"""A provider that is down: left alone by all workers, and nothing is lost by it."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.errors import ProviderRefused
from shared.models import db
from tests.fixtures.commands import rag_worker
from tests.fixtures.metrics import measured
from tests.fixtures.trace_deliveries import OpenTraces, Traces, numbered
from tests.fixtures.trace_receiver import (
    Answer,
    Asked,
    TraceReceiver,
    cutting,
    hanging,
    refusing,
    taken,
)
from worker.services.ops_trace.breaking import Admission, admit, failing_providers


@pytest.fixture
def traces(open_traces: OpenTraces, trace_receiver: TraceReceiver) -> Traces:
    return open_traces(trace_receiver)


@pytest.mark.parametrize(
    ("step", "timeout"),
    [(refusing(503), 60), (refusing(500), 60), (cutting(), 60), (hanging(3), 0.5)],
    ids=["503", "500", "cut", "slow"],
)
def test_a_failure_is_tried_again_and_three_open_the_breaker(
    step: Any, timeout: float, open_traces: OpenTraces, trace_receiver: TraceReceiver
) -> None:
    traces = open_traces(trace_receiver, TRACE_TIMEOUT_SECONDS=str(timeout))
    trace_receiver.always = step
    config = traces.config()
    ids = traces.record(config, *numbered(2))
    for failures in (1, 2):
        assert traces.deliver(ids[0]) == 0
        breaker = traces.breaker(config)
        assert breaker is not None
        assert (breaker.failures, breaker.open_until) == (failures, None)
        ((announced, delay),) = traces.messages()
        assert sorted(announced) == sorted(map(str, ids))
        assert 0 < delay <= 10
        traces.forget_messages()
    traces.deliver(ids[0])
    breaker = traces.breaker(config)
    assert breaker is not None
    assert breaker.open_until is not None
    # The third, which opened it, is the provider's and not the traces' failure.
    assert [traces.row(one).attempts for one in ids] == [2, 2]
    ((probe, delay),) = traces.messages()
    assert len(probe) == 1
    assert 2 < delay <= 5


def test_while_it_is_open_nobody_asks_and_no_attempt_is_burnt(
    traces: Traces, trace_receiver: TraceReceiver
) -> None:
    config, other = traces.config(), traces.config("phoenix")
    trace_receiver.always = refusing(429, "slow down", Retry_After="3600")
    ids = traces.record(config, *numbered(5))
    assert traces.deliver(ids[0]) == 0
    ((_, delay),) = traces.messages()
    assert 3590 < delay <= 3600
    for one in ids:
        for _ in range(30):
            assert traces.deliver(one) == 0
    assert len(trace_receiver.asked) == 1
    assert traces.statuses(ids) == ["waiting"] * 5
    assert [traces.row(one).attempts for one in ids] == [0] * 5
    assert "429: slow down" in str(traces.row(ids[0]).error)
    # Nor does the sweeper send out what would only wait again.
    traces.forget_messages()
    assert traces.sweep() == 0
    with Session(db.engine) as session:
        (state,) = failing_providers(session, traces.tenant_id)
        assert failing_providers(session, uuid4()) == []
    assert state.config_id == config
    assert state.words.startswith("otlp is left alone, its traces wait: 1 failures since ")
    assert state.words.endswith("429: slow down")
    listed = rag_worker("traces", "list", SECRET_KEY="a key of the tests")
    assert f"tenant {traces.tenant_id}: otlp is left alone, its traces wait: " in listed.out
    assert measured(traces.app).get("trace_breakers_open") == 1
    # Another provider of the same tenant is not held up.
    trace_receiver.always = taken
    others = traces.record(other, *numbered(1, first=9))
    assert traces.deliver(others[0]) == 1


def test_one_probe_tries_and_lets_the_others_follow(
    traces: Traces, trace_receiver: TraceReceiver
) -> None:
    config = traces.config()
    trace_receiver.always = refusing(503, Retry_After="60")
    ids = traces.record(config, *numbered(130))
    traces.deliver(ids[0])
    traces.forget_messages()

    traces.pass_time(config)
    assert traces.sweep() == 1, "one is sent to try"
    ((probe, _),) = traces.messages()
    traces.forget_messages()
    trace_receiver.always = refusing(503)
    traces.deliver(*[one for one in ids if str(one) in probe])
    assert len(trace_receiver.asked[-1].spans) == 4
    breaker = traces.breaker(config)
    assert breaker is not None
    assert (breaker.failures, breaker.openings) == (2, 2)
    assert traces.row(ids[0]).attempts == 0
    traces.forget_messages()

    traces.pass_time(config)
    trace_receiver.always = taken
    assert traces.deliver(ids[0]) == 1
    assert traces.breaker(config) is None
    carried = [one for several, _ in traces.messages() for one in several]
    assert sorted(carried) == sorted(str(one) for one in ids[1:])
    assert [len(several) for several, _ in traces.messages()] == [100, 29]
    assert traces.deliver(ids[5]) == 129
    assert len(trace_receiver.stored) == 130 * 4


def test_only_one_worker_is_the_probe(traces: Traces, trace_receiver: TraceReceiver) -> None:
    config = traces.config()
    trace_receiver.always = refusing(503, Retry_After="60")
    ids = traces.record(config, *numbered(1))
    traces.deliver(ids[0])
    traces.pass_time(config)
    with Session(db.engine) as session:
        assert [admit(session, config, 60) for _ in range(3)] == [
            Admission.PROBE,
            Admission.OPEN,
            Admission.OPEN,
        ]
        # It died: another one may try.
        session.execute(text("UPDATE trace_breakers SET probe_until = now() - interval '1s'"))
        assert admit(session, config, 60) is Admission.PROBE


def test_a_probe_that_cannot_be_sent_proves_nothing(
    traces: Traces, trace_receiver: TraceReceiver
) -> None:
    config = traces.config()
    trace_receiver.always = refusing(503, Retry_After="60")
    ids = traces.record(config, *numbered(3))
    traces.deliver(ids[0])
    with Session(db.engine) as session, session.begin():
        broken = text("UPDATE trace_deliveries SET payload = 'x' WHERE id = :id")
        session.execute(broken, {"id": ids[0]})
    traces.forget_messages()
    traces.pass_time(config)
    traces.deliver(ids[0])
    assert traces.statuses(ids) == ["failed", "waiting", "waiting"]
    assert len(trace_receiver.asked) == 1
    breaker = traces.breaker(config)
    assert breaker is not None
    assert breaker.probe_until is None
    assert traces.sweep() == 1, "another one tries"


def test_who_refuses_for_good_is_not_down(traces: Traces, trace_receiver: TraceReceiver) -> None:
    config = traces.config()
    trace_receiver.always = refusing(503, Retry_After="60")
    ids = traces.record(config, *numbered(3))
    traces.deliver(ids[0])
    traces.forget_messages()
    traces.pass_time(config)
    trace_receiver.always = refusing(401)
    with pytest.raises(ProviderRefused):
        traces.deliver(ids[0])
    assert traces.breaker(config) is None
    ((announced, _),) = traces.messages()
    assert sorted(announced) == sorted(str(one) for one in ids[1:])


def test_the_pauses_grow_and_have_an_end(traces: Traces, trace_receiver: TraceReceiver) -> None:
    trace_receiver.always = refusing(503)
    config = traces.config()
    ids = traces.record(config, *numbered(1))
    delays = []
    for _ in range(12):
        traces.forget_messages()
        traces.pass_time(config)
        traces.deliver(ids[0])
        delays.append(traces.messages()[0][1])
    longest = [min(5 * 2**number, 300) for number in range(10)]
    for delay, ceiling in zip(delays[2:], longest, strict=True):
        assert ceiling * 0.49 < delay <= ceiling
    assert str(traces.row(ids[0]).status) == "waiting"


def test_what_never_goes_through_ends_while_others_do(
    open_traces: OpenTraces, trace_receiver: TraceReceiver
) -> None:
    traces = open_traces(trace_receiver, TRACE_MAX_ATTEMPTS="6")
    config = traces.config()
    (poor,) = traces.record(config, *numbered(1), announce=True)
    poor_trace = traces.row(poor).trace_id

    def poorly(asked: Asked) -> Answer:
        ids = {one.trace_id for one in asked.spans}
        return refusing(503)(asked) if poor_trace in ids else taken(asked)

    trace_receiver.always = poorly
    others: list[UUID] = []
    for number in range(1, 100):
        others += traces.record(config, *numbered(1, first=number), announce=True)
        traces.pass_time(config)
        traces.work()
        if str(traces.row(poor).status) != "waiting":
            break
    error = str(traces.row(poor).error)
    assert error.startswith("given up after 6 attempts, while its provider took others")
    traces.pass_time(config)
    traces.work()
    assert set(traces.statuses(others)) == {"delivered"}
    assert traces.breaker(config) is None
