"""Old traces go, large ones that have ended move to the storage, and their files go with them."""

from typing import BinaryIO

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.errors import Permanent
from shared.models import db
from tests.fixtures.traced import Traced
from worker.services.ops_trace.cleaning import (
    Cleaned,
    Retention,
    clean_traces,
    storage_key_of,
)
from worker.services.ops_trace.payloads import masked_for, stored_trace
from worker.tasks.ops_trace import clean_traces_task
from worker.wiring import clean_old_traces, payload_files
from worker.wiring.foundations import sessions


def end(traced: Traced, trace_id: str, status: str, days: int) -> None:
    traced.write(
        "UPDATE trace_deliveries SET status = :status, lease_expires_at = NULL, "
        "ended_at = now() - make_interval(days => :days) WHERE trace_id = :id",
        id=trace_id,
        status=status,
        days=days,
    )


def test_each_status_is_kept_for_its_days(traced: Traced) -> None:
    traced.configure()
    kept = []
    for status, days, is_old in (
        ("delivered", 8, True),
        ("delivered", 6, False),
        ("failed", 8, False),
        ("failed", 31, True),
        ("partial", 31, True),
        ("cancelled", 31, True),
        ("disabled", 29, False),
        ("waiting", 99, False),
        ("sending", 99, False),
    ):
        trace_id = traced.record(trace_id=f"{status} {days}")
        end(traced, trace_id, status, days)
        kept += [] if is_old else [trace_id]

    assert clean_old_traces() == Cleaned(deleted=4, moved=0)

    assert {row.trace_id for row in traced.rows()} == set(kept)
    clean_traces_task()
    assert len(traced.rows()) == len(kept)


def test_a_large_one_moves_when_it_has_ended_and_its_file_goes_with_the_row(
    traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = traced.app.extensions["storage"]
    settings = traced.app.extensions["settings"].tracing
    monkeypatch.setitem(settings.__dict__, "trace_inline_bytes", 100)
    traced.configure()
    trace_id = traced.record()
    whole = traced.spans(traced.row())
    assert clean_old_traces() == Cleaned(0, 0), "it may still be sent, or joined by more spans"
    end(traced, trace_id, "delivered", 1)

    assert clean_old_traces() == Cleaned(deleted=0, moved=1)
    row = traced.row()
    assert (row.payload, row.storage_key) == (None, storage_key_of(traced.tenant_id, row.id))
    assert stored_trace(row.payload, row.storage_key, payload_files()) == whole
    assert clean_old_traces() == Cleaned(0, 0)

    end(traced, trace_id, "delivered", 8)
    assert clean_old_traces() == Cleaned(deleted=1, moved=0)
    from worker.wiring import remove_unused_files

    assert row.storage_key is not None
    remove_unused_files()
    assert not storage.exists(row.storage_key)
    with Session(db.engine) as session, session.begin():
        session.execute(text("UPDATE removals SET due_at = now()"))
    remove_unused_files()
    assert [path for path in storage.find("") if str(row.id) in path] == []
    with pytest.raises(Permanent, match="are gone"):
        stored_trace(None, row.storage_key, payload_files())
    with pytest.raises(Permanent, match="no spans any more"):
        stored_trace(None, None, payload_files())


def test_a_row_that_is_deleted_or_replayed_while_its_file_is_written_leaves_nothing_behind(
    traced: Traced,
) -> None:
    files = payload_files()
    retention = Retention(delivered_days=7, failed_days=7, inline_bytes=100)
    traced.configure()
    ends = {
        "UPDATE trace_deliveries SET status = 'waiting'": None,
        "DELETE FROM trace_deliveries": "stored_file",
    }

    class Meanwhile:
        """A storage so slow that something happens to the row."""

        statement = ""

        def open(self, key: str) -> BinaryIO:
            return files.open(key)

        def write(self, key: str, content: bytes) -> None:
            files.write(key, content)
            traced.write(self.statement)

    for number, (statement, noted) in enumerate(ends.items()):
        trace_id = traced.record(trace_id=str(number))
        traced.write("UPDATE trace_deliveries SET status = 'failed', ended_at = now()")
        slow = Meanwhile()
        slow.statement = statement
        clean_traces(sessions(), slow, retention)
        kept = traced.rows(trace_id)
        assert [(row.status, row.payload is None) for row in kept] == (
            [] if noted else [("waiting", False)]
        )
        traced.write("DELETE FROM trace_deliveries")
        with Session(db.engine) as session:
            assert session.scalar(text("SELECT min(kind) FROM removals")) == noted


def test_a_configurations_own_rules_hold_also_for_what_was_recorded_before(traced: Traced) -> None:
    traced.record()
    trace = traced.spans(traced.row())
    assert masked_for(trace, {}) is trace
    assert masked_for(trace, {"redact_keys": ["QUERY"]}).spans[0].input == {"query": "***"}
    bare = masked_for(trace, {"capture_content": False})
    assert [one.input for one in bare.spans] == [None] * 4
