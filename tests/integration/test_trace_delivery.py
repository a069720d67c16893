"""Traces on their way: batches, refusals, partial success, leases, cancelled configurations."""

from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.errors import ConfigurationError, LeaseLost, ProviderRefused
from shared.models import db
from tests.fixtures.trace_deliveries import OpenTraces, Traces, numbered
from tests.fixtures.trace_receiver import Answer, Asked, TraceReceiver, partly, refusing, taken
from tests.fixtures.traces import chat_trace, span

BAD = "a span with a bad id"


@pytest.fixture
def traces(open_traces: OpenTraces, trace_receiver: TraceReceiver) -> Traces:
    return open_traces(trace_receiver)


def picky(asked: Asked) -> Answer:
    """Refuses a request for one bad span, as Langfuse does."""
    if any(one.name == BAD for one in asked.spans):
        return refusing(400, "Invalid span id")(asked)
    return taken(asked)


def with_bad_span(trace: dict[str, Any]) -> dict[str, Any]:
    trace["spans"].append(span("bad", name=BAD, parent_span_id="root"))
    return trace


def test_traces_of_one_provider_travel_together(
    traces: Traces, trace_receiver: TraceReceiver
) -> None:
    config = traces.config(secrets={"headers": {"x-key": "sk-secret"}})
    other = traces.config("phoenix")
    ids = traces.record(config, *numbered(10), announce=True)
    elsewhere = traces.record(other, *numbered(1, first=50))
    assert traces.deliver(ids[3]) == 10
    (asked,) = trace_receiver.asked
    assert len(asked.spans) == 40
    assert asked.headers["x-key"] == "sk-secret"
    seen: set[str] = {""}
    for one in asked.spans:
        assert one.parent_span_id in seen, "a child stands before its parent"
        seen.add(one.span_id)
    assert traces.statuses(ids) == ["delivered"] * 10
    assert traces.statuses(elsewhere) == ["waiting"]
    row = traces.row(ids[0])
    assert (row.sent_spans, row.rejected_spans, row.attempts, row.lease_owner) == (4, 0, 1, None)
    assert row.ended_at is not None
    # What the others' messages would have found done is not even delivered.
    assert traces.messages() == []
    assert traces.deliver(ids[3]) == 0
    assert len(trace_receiver.asked) == 1


def test_a_request_is_bounded_by_spans(traces: Traces, trace_receiver: TraceReceiver) -> None:
    config = traces.config()
    ids = traces.record(config, *numbered(9, spans=300))
    assert traces.deliver(ids[0]) == 9
    assert [len(asked.spans) for asked in trace_receiver.asked] == [1800, 900]


def test_one_bad_span_costs_nobody_else_their_delivery(
    traces: Traces, trace_receiver: TraceReceiver
) -> None:
    trace_receiver.always = picky
    config = traces.config("langfuse", secrets={"public_key": "pk", "secret_key": "sk-secret"})
    given = numbered(20)
    with_bad_span(given[7])
    ids = traces.record(config, *given)
    assert traces.deliver(ids[0]) == 20
    assert traces.statuses(ids) == ["delivered"] * 7 + ["partial"] + ["delivered"] * 12
    row = traces.row(ids[7])
    assert (row.sent_spans, row.rejected_spans) == (4, 1)
    (rejection,) = row.rejections
    assert rejection["reason"].endswith("answers 400: Invalid span id")
    assert rejection["span_id"] in {one.span_id for one in trace_receiver.spans if one.name == BAD}
    assert rejection["span_id"] not in trace_receiver.stored
    assert set(trace_receiver.stored.values()) == {1}
    assert len(trace_receiver.stored) == 80
    assert len(trace_receiver.asked) < 20
    assert row.error is not None
    assert row.error.startswith("1 of 5 spans were refused: ")


def test_langsmiths_traces_are_never_parted(traces: Traces, trace_receiver: TraceReceiver) -> None:
    trace_receiver.always = picky
    config = traces.config("langsmith", secrets={"api_key": "sk-secret"}, project="p")
    given = numbered(8)
    with_bad_span(given[2])
    ids = traces.record(config, *given)
    traces.deliver(ids[0])
    statuses = ["delivered"] * 8
    statuses[2] = "failed"
    assert traces.statuses(ids) == statuses
    for asked in trace_receiver.asked:
        whole: dict[str, set[str]] = {}
        for one in asked.spans:
            whole.setdefault(one.trace_id, {""}).add(one.span_id)
        for one in asked.spans:
            assert one.parent_span_id in whole[one.trace_id]


def test_what_is_refused_whatever_is_in_it_is_not_sent_span_by_span(
    traces: Traces, trace_receiver: TraceReceiver
) -> None:
    trace_receiver.always = refusing(400, "unsupported version")
    ids = traces.record(traces.config(), *numbered(100))
    assert traces.deliver(ids[0]) == 100
    assert set(traces.statuses(ids)) == {"failed"}
    assert len(trace_receiver.asked) < 150
    assert "unsupported version" in str(traces.row(ids[50]).error)


def test_too_large_a_request_is_sent_in_parts(
    traces: Traces, trace_receiver: TraceReceiver
) -> None:
    trace_receiver.always = lambda asked: (
        refusing(413)(asked) if len(asked.spans) > 7 else taken(asked)
    )
    ids = traces.record(traces.config(), *numbered(4, spans=10))
    assert traces.deliver(ids[0]) == 4
    assert traces.statuses(ids) == ["delivered"] * 4
    assert len(trace_receiver.stored) == 40


def test_partial_success_is_written_down_and_never_sent_again(
    traces: Traces, trace_receiver: TraceReceiver
) -> None:
    config = traces.config()
    (first,) = traces.record(config, chat_trace("a"))
    trace_receiver.always = lambda asked: partly(1, f"span {asked.ids[2]} is too old")(asked)
    traces.deliver(first)
    row = traces.row(first)
    assert (str(row.status), row.sent_spans, row.rejected_spans) == ("partial", 3, 1)
    refused = trace_receiver.asked[0].ids[2]
    assert row.rejections == [{"span_id": refused, "reason": f"span {refused} is too old"}]

    (second,) = traces.record(config, chat_trace("b"))
    trace_receiver.always = partly(3, "three of them are too old")
    traces.deliver(second)
    row = traces.row(second)
    assert (str(row.status), row.sent_spans, row.rejected_spans) == ("partial", 1, 3)
    assert row.rejections == [{"span_id": None, "reason": "three of them are too old"}]

    both = traces.record(config, chat_trace("c"), chat_trace("d"))
    trace_receiver.always = partly(8, "")
    traces.deliver(*both)
    assert traces.statuses(both) == ["failed", "failed"]
    assert len(traces.row(both[0]).rejections) == 4

    several = traces.record(config, chat_trace("e"), chat_trace("f"))
    trace_receiver.always = partly(2, "two are too old")
    traces.deliver(*several)
    assert traces.statuses(several) == ["partial", "partial"]
    assert "2 of 8 spans of its request were refused" in str(traces.row(several[1]).rejections)

    asked = len(trace_receiver.asked)
    traces.forget_messages()
    assert traces.sweep() == 0
    assert traces.deliver(first, second, *both, *several) == 0
    assert len(trace_receiver.asked) == asked


def test_a_wrong_key_ends_the_traces_with_the_providers_words(
    traces: Traces, trace_receiver: TraceReceiver
) -> None:
    trace_receiver.always = refusing(401, "bad key sk-secret-123")
    config = traces.config("phoenix", secrets={"api_key": "sk-secret-123"})
    ids = traces.record(config, *numbered(3))
    with pytest.raises(ProviderRefused):
        traces.deliver(ids[0])
    assert traces.statuses(ids) == ["failed"] * 3
    row = traces.row(ids[2])
    assert row.error == "the trace provider answers 401: bad key ********"
    assert len(trace_receiver.asked) == 1


def test_secrets_that_cannot_be_opened_end_the_traces(traces: Traces) -> None:
    config = traces.config("phoenix", secrets={"api_key": "k"})
    traces.change(config, secrets="gAAAAABnothing")
    ids = traces.record(config, *numbered(2))
    with pytest.raises(ConfigurationError, match="SECRET_KEY"):
        traces.deliver(ids[0])
    assert traces.statuses(ids) == ["failed"] * 2

    config = traces.config("weave", secrets={"api_key": "k"}, entity="e", project="p")
    traces.change(config, secrets=None)
    ids = traces.record(config, *numbered(2))
    with pytest.raises(ConfigurationError, match="has no api_key"):
        traces.deliver(ids[0])


@pytest.mark.parametrize("how", ["changed", "deleted", "switched off"])
def test_what_waits_for_a_configuration_that_is_no_more_is_cancelled(
    how: str, traces: Traces, trace_receiver: TraceReceiver
) -> None:
    config = traces.config()
    ids = traces.record(config, *numbered(3))
    if how == "deleted":
        with Session(db.engine) as session, session.begin():
            session.execute(text("DELETE FROM trace_configs WHERE id = :id"), {"id": config})
    else:
        values = {"version": 2} if how == "changed" else {"is_enabled": False}
        traces.change(config, **values)
    assert traces.deliver(*ids) == 0
    assert traces.statuses(ids) == ["cancelled"] * 3
    assert how in str(traces.row(ids[1]).error)
    assert trace_receiver.asked == []


def test_a_change_during_the_sending_fences_the_sender(
    traces: Traces, trace_receiver: TraceReceiver
) -> None:
    config = traces.config()
    ids = traces.record(config, *numbered(3))

    engine = db.engine

    def cancelled_meanwhile(asked: Asked) -> Answer:
        with engine.begin() as connection:
            connection.execute(
                text(
                    "UPDATE trace_deliveries SET status = 'cancelled', lease_expires_at = NULL, "
                    "lease_token = lease_token + 1 WHERE config_id = :id"
                ),
                {"id": config},
            )
        return taken(asked)

    trace_receiver.always = cancelled_meanwhile
    with suppress(LeaseLost):
        traces.deliver(ids[0])
    assert traces.statuses(ids) == ["cancelled"] * 3


def test_a_worker_that_died_with_them_loses_nothing(
    traces: Traces, trace_receiver: TraceReceiver
) -> None:
    config = traces.config()
    ids = traces.record(config, *numbered(3))
    held = text(
        "UPDATE trace_deliveries SET status = 'sending', lease_token = 1, attempts = 1, "
        "lease_owner = 'node/1', lease_expires_at = now() + CAST(:left AS interval)"
    )
    with Session(db.engine) as session, session.begin():
        session.execute(held, {"left": "1 hour"})
    assert traces.deliver(*ids) == 0, "another worker has them"
    assert traces.sweep() == 0
    with Session(db.engine) as session, session.begin():
        session.execute(held, {"left": "-1 second"})
    assert traces.sweep() == 3
    ((announced, _),) = traces.messages()
    assert sorted(announced) == sorted(map(str, ids))
    # One of them may have killed it: each goes alone from now on.
    assert traces.deliver(*ids) == 0
    alone = [UUID(one) for carried, _ in traces.messages() for one in carried if len(carried) == 1]
    assert sorted(alone) == sorted(ids)
    assert [traces.deliver(one) for one in alone] == [1, 1, 1]
    assert [len(asked.spans) for asked in trace_receiver.asked] == [4, 4, 4]
    assert traces.row(ids[0]).deaths == 1


def test_a_trace_that_kills_every_worker_ends(traces: Traces) -> None:
    ids = traces.record(traces.config(), *numbered(1))
    with Session(db.engine) as session, session.begin():
        session.execute(
            text("UPDATE trace_deliveries SET deaths = 2, lease_expires_at = now() - interval '1s'")
        )
    traces.deliver(*ids)
    row = traces.row(ids[0])
    assert (str(row.status), row.error) == ("failed", "the worker died 3 times on this trace")


def test_late_spans_go_behind_the_part_with_their_parents(
    traces: Traces, trace_receiver: TraceReceiver
) -> None:
    config = traces.config()
    late = {
        "trace_id": "run-7",
        "name": "late",
        "continues": True,
        "spans": [span("late", parent_span_id="root")],
    }
    second, first = traces.record(config, late, chat_trace("run-7"))
    with Session(db.engine) as session, session.begin():
        session.execute(text("UPDATE trace_deliveries SET part = 1 WHERE id = :id"), {"id": second})
    traces.deliver(second)
    assert traces.statuses([first, second]) == ["delivered"] * 2
    assert [one.name for one in trace_receiver.spans][-1] == "late"


def test_a_message_that_is_early_does_not_leave_its_trace_behind(
    traces: Traces, trace_receiver: TraceReceiver
) -> None:
    (one,) = traces.record(traces.config(), *numbered(1))
    due = text("UPDATE trace_deliveries SET due_at = now() + CAST(:in AS interval)")
    with Session(db.engine) as session, session.begin():
        session.execute(due, {"in": "9 seconds"})
    assert traces.deliver(one) == 0
    ((announced, delay),) = traces.messages()
    assert announced == [str(one)]
    assert 8 < delay <= 9
    with Session(db.engine) as session, session.begin():
        session.execute(due, {"in": "0 seconds"})
    traces.work()
    assert traces.statuses([one]) == ["delivered"]


def test_a_payload_that_cannot_be_read_ends_its_trace_alone(
    traces: Traces, trace_receiver: TraceReceiver
) -> None:
    ids = traces.record(traces.config(), *numbered(3))
    with Session(db.engine) as session, session.begin():
        session.execute(
            text("UPDATE trace_deliveries SET payload = '\\x00' WHERE id = :id"), {"id": ids[1]}
        )
    traces.deliver(ids[0])
    assert traces.statuses(ids) == ["delivered", "failed", "delivered"]
    assert "cannot be read" in str(traces.row(ids[1]).error)


def test_rows_without_a_message_are_announced_together(traces: Traces) -> None:
    config = traces.config()
    ids = traces.record(config, *numbered(250))
    assert traces.sweep(grace_seconds=60) == 0
    assert traces.sweep() == 250
    assert [len(carried) for carried, _ in traces.messages()] == [100, 100, 50]
    assert traces.sweep() == 0
    assert {one for carried, _ in traces.messages() for one in carried} == set(map(str, ids))
