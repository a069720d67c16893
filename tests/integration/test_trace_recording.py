"""A trace is recorded in the producer's transaction: what is wrong is said at once."""

from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.errors import InvalidRequest, NotFound, TraceTooLarge
from shared.models import OutboxMessage, db
from shared.submitting.trace_replaying import replay_trace
from shared.submitting.traces import TraceRules, record_trace
from tests.fixtures.messages import Messages
from tests.fixtures.traced import Traced
from tests.fixtures.traces import chat_trace, span

RULES = TraceRules()


def replay(traced: Traced, row: Any) -> bool:
    with Session(db.engine) as session, session.begin():
        return replay_trace(session, row.id)


def test_row_and_message_are_there_if_and_when_the_transaction_commits(traced: Traced) -> None:
    change = traced.configure()
    with Session(db.engine) as session:
        trace_id = record_trace(session, traced.tenant_id, chat_trace(), rules=RULES)
        session.rollback()
    assert traced.rows() == []
    assert traced.record() == trace_id

    row = traced.row()
    assert (row.trace_id, row.name, row.kind, row.app_id) == (trace_id, "tides", "chat", "app-1")
    assert (row.status, row.provider, row.part, row.span_count) == ("waiting", "langfuse", 0, 4)
    assert (row.config_id, row.config_version) == (change.config_id, 1)
    assert row.payload is not None
    assert row.payload_bytes == len(row.payload)
    assert [one.name for one in traced.spans(row).spans] == [
        "chat",
        "retrieve",
        "answer",
        "look up",
    ]
    assert row.message_id is not None
    message = Messages(traced.app).row(row.message_id)
    assert message is not None
    assert (message.queue, message.args) == ("ops_trace", [str(row.id)])
    assert message.tenant_id == traced.tenant_id


def test_what_the_producer_does_wrong_it_is_told_at_once(traced: Traced) -> None:
    traced.configure()
    with pytest.raises(InvalidRequest, match="no trace: trace_id"):
        traced.record({"name": "t", "spans": [span("a")]})
    with pytest.raises(NotFound, match="no tenant"):
        traced.record(tenant_id=uuid4())
    with pytest.raises(InvalidRequest, match="tenant_id"):
        traced.record(tenant_id="acme")
    with pytest.raises(TraceTooLarge, match="4 spans, more than 3"):
        traced.record(rules=TraceRules(max_spans=3))
    with pytest.raises(TraceTooLarge, match="TRACE_MAX_BYTES"):
        traced.record(rules=TraceRules(max_bytes=500))
    assert traced.rows() == []


def test_without_a_configuration_the_row_says_so_and_is_replayed_to_every_provider_there_is(
    traced: Traced,
) -> None:
    traced.record()
    row = traced.row()
    assert (row.status, row.config_id, row.message_id) == ("disabled", None, None)
    assert row.error is not None
    assert "traces config set" in row.error
    assert row.ended_at is not None
    assert not replay(traced, row), "there still is none"

    traced.configure()
    traced.configure("otlp", endpoint="https://collector.example.com")
    assert replay(traced, row)
    assert not replay(traced, row), "it waits already"
    rows = traced.rows()
    assert sorted((str(one.status), one.provider) for one in rows) == [
        ("waiting", "langfuse"),
        ("waiting", "otlp"),
    ]
    assert all(one.message_id is not None and one.error is None for one in rows)
    assert {one.payload for one in rows} == {row.payload}


def test_an_apps_own_configurations_go_before_its_tenants_also_while_they_are_off(
    traced: Traced,
) -> None:
    wide = traced.configure()
    own = traced.configure("phoenix", app_id="app-1", endpoint="https://phoenix.example.com")
    traced.record(trace_id="own")
    traced.record(trace_id="other", app_id="app-2")
    traced.record(trace_id="none", app_id=None)
    by_provider = {row.app_id: row.config_id for row in traced.rows()}
    assert by_provider == {"app-1": own.config_id, "app-2": wide.config_id, None: wide.config_id}

    traced.configure(
        "phoenix", app_id="app-1", endpoint="https://phoenix.example.com", is_enabled=False
    )
    off = traced.record(trace_id="off")
    assert traced.row(off).status == "disabled"
    traced.configure("otlp", endpoint="https://collector.example.com")
    both = traced.record(trace_id="both", app_id="app-2")
    assert sorted(str(row.provider) for row in traced.rows(both)) == ["langfuse", "otlp"]


def test_rules_mask_and_cut_before_anything_is_stored(
    traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shared.settings import load_settings

    monkeypatch.setenv("TRACE_REDACT_PATTERNS", '["[0-9]{16}", "[a-z.]+@[a-z.]+"]')
    monkeypatch.setenv("TRACE_VALUE_CHARACTERS", "1000")
    rules = TraceRules.of(load_settings().tracing)
    traced.configure(options={"redact_keys": ["diagnosis"]})
    one = span(
        "a",
        name="pay 4111111111111111",
        input={"Api-Key": "s3cret", "card": "4111111111111111", "Diagnosis": "flu"},
        output='{"password": "s3cret", "n": 1}',
        attributes={"http.request.header.authorization": "Bearer s3cret", "mail": "a@b.cd"},
        status_message="for ada@example.com",
        events=[{"name": "e", "time_ns": 1790000000000000000, "attributes": {"cookie": "s3cret"}}],
        documents=[{"id": "d", "content": "x" * 5000, "metadata": {"secret": {"a": "s3cret"}}}],
    )
    traced.record(
        {"trace_id": "r", "name": "of a@b.cd", "user_id": "ada@example.com", "spans": [one]},
        rules=rules,
    )

    row = traced.row()
    trace = traced.spans(row)
    (stored,) = trace.spans
    assert (row.name, trace.name, trace.user_id) == ("of ***", "of ***", "***")
    assert stored.name == "pay ***"
    assert stored.input == {"Api-Key": "***", "card": "***", "Diagnosis": "***"}
    assert stored.output == '{"password": "***", "n": 1}'
    assert stored.attributes == {"http.request.header.authorization": "***", "mail": "***"}
    assert stored.status_message == "for ***"
    assert stored.events[0].attributes == {"cookie": "***"}
    assert stored.documents[0].metadata == {"secret": "***"}
    assert stored.documents[0].content == "x" * 1000 + "… [4000 characters cut]"
    assert "s3cret" not in trace.model_dump_json()


def test_a_configuration_can_keep_contents_back(traced: Traced) -> None:
    traced.configure(options={"capture_content": False})
    traced.record()
    said = traced.spans(traced.row()).model_dump_json()
    for content in ("high tide", "High tide", "noon", "Be short"):
        assert content not in said
    assert '"input_tokens":120' in said


def test_spans_that_come_later_join_what_waits_and_follow_what_was_sent(traced: Traced) -> None:
    traced.configure()
    child = span("child", parent_span_id="root")
    trace = {"trace_id": "r", "name": "part", "continues": True}
    traced.record({**trace, "spans": [child]})
    row = traced.row()
    assert row.due_at is not None, "it waits for its root"
    first_message = row.message_id

    root = {"trace_id": "r", "name": "whole", "user_id": "ada", "spans": [span("root")]}
    traced.record(root)
    row = traced.row()
    assert (row.span_count, row.due_at, row.name) == (2, None, "whole")
    assert row.message_id != first_message
    assert [one.name for one in traced.spans(row).spans] == ["root", "child"]
    assert traced.spans(row).user_id == "ada"

    traced.record(root)
    assert traced.row().span_count == 2, "recorded twice, it is there once"
    claimed = "UPDATE trace_deliveries SET status = 'sending', lease_expires_at = now()"
    traced.write(claimed)
    traced.record({**trace, "spans": [span("late", parent_span_id="child")]})
    first, second = traced.rows()
    assert (first.part, first.span_count) == (0, 2)
    assert (second.part, second.span_count, second.trace_id) == (1, 1, first.trace_id)
    assert traced.spans(second).spans[0].parent_span_id == traced.spans(first).spans[1].span_id


def test_the_wait_for_a_root_ends_by_itself(traced: Traced) -> None:
    traced.configure()
    orphan = span("child", parent_span_id="root")
    remote = span("b", parent_span_id="root", is_parent_remote=True)
    traced.record(
        {"trace_id": "r", "name": "t", "continues": True, "spans": [orphan]},
        rules=TraceRules(gather_seconds=300),
    )
    traced.record({"trace_id": "s", "name": "t", "spans": [remote]})
    waiting, due = sorted(traced.rows(), key=lambda row: row.due_at is None)
    assert due.due_at is None, "its parent is elsewhere for good"
    with Session(db.engine) as session:
        message = session.get_one(OutboxMessage, waiting.message_id)
        assert message.available_at == waiting.due_at
        assert 290 < (message.available_at - message.created_at).total_seconds() < 310


def test_a_tenant_that_is_deleted_takes_its_traces_along(traced: Traced) -> None:
    traced.configure()
    traced.record()
    key = f"traces/{traced.tenant_id}/x"
    traced.write("UPDATE trace_deliveries SET storage_key = :key, payload = NULL", key=key)

    traced.write("DELETE FROM tenants")

    assert traced.rows() == []
    with Session(db.engine) as session:
        assert session.scalar(text("SELECT count(*) FROM trace_configs")) == 0
        assert session.scalar(text("SELECT storage_key FROM removals")) == key


def test_every_statement_has_its_index(traced: Traced) -> None:
    traced.configure()
    traced.record()
    with Session(db.engine) as session:
        session.execute(text("SET LOCAL enable_seqscan = off"))
        ended = "status NOT IN ('waiting', 'sending')"
        for condition, index in (
            ("trace_id = 'a'", "ix_trace_deliveries_trace"),
            (
                f"config_id = '{uuid4()}' AND status IN ('waiting', 'sending')",
                "ix_trace_deliveries_config",
            ),
            ("status = 'failed' AND ended_at < now()", "ix_trace_deliveries_ended"),
            (
                f"storage_key IS NULL AND {ended} AND payload_bytes > 9",
                "ix_trace_deliveries_large",
            ),
            (f"tenant_id = '{uuid4()}'", "ix_trace_deliveries_tenant"),
        ):
            query = f"EXPLAIN SELECT id FROM trace_deliveries WHERE {condition}"
            plan = "\n".join(session.scalars(text(query)))
            assert index in plan, plan
