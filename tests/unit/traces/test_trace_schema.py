"""What is a trace, and what a producer is told of one that is none."""

import json
import zlib
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest

from shared.errors import InvalidRequest, Permanent
from shared.submitting.trace_ids import span_id_of, trace_id_of
from shared.submitting.trace_payload import checked_trace, packed, unpacked
from shared.submitting.trace_schema import Span, Trace
from tests.fixtures.traces import NOW_NS, chat_trace, span


def refused(**changes: Any) -> str:
    with pytest.raises(InvalidRequest) as error:
        checked_trace({"trace_id": "run-7", "name": "t", "spans": [span("a")]} | changes)
    return str(error.value)


def test_ids_are_valid_by_w3c_and_the_same_again() -> None:
    uuid = UUID("8d9c1a70-5d59-4a1a-9be2-111111111111")
    assert trace_id_of(uuid) == trace_id_of(str(uuid)) == uuid.hex
    assert trace_id_of("AB" * 16) == "ab" * 16
    assert trace_id_of("0" * 32) != "0" * 32
    assert trace_id_of("run 7") == trace_id_of("run 7") != trace_id_of("run 8")
    assert len(trace_id_of(12)) == 32
    trace = trace_id_of("run 7")
    assert span_id_of(trace, "AB" * 8) == "ab" * 8
    assert len(span_id_of(trace, "node 1")) == 16
    assert span_id_of(trace, "node 1") != span_id_of(trace_id_of("run 8"), "node 1")
    for wrong in (True, 1.5, "", " ", None, "x" * 600):
        with pytest.raises(ValueError, match="an id"):
            trace_id_of(wrong)


def test_a_trace_stands_parents_first_and_keeps_every_field() -> None:
    given = chat_trace()
    trace = checked_trace(given)

    assert [one.name for one in trace.spans] == ["chat", "retrieve", "answer", "look up"]
    ids = [one.span_id for one in trace.spans]
    assert [one.parent_span_id for one in trace.spans] == [None, ids[0], ids[0], ids[2]]
    assert trace.roots == (trace.spans[0],)
    payload, json_bytes = packed(trace)
    assert unpacked(payload) == trace
    assert json_bytes > len(payload)
    again = checked_trace(trace.model_dump())
    assert again == trace, "ids that are valid stay"
    assert trace.spans[2].usage is not None
    assert trace.spans[2].usage.total == 150


def test_times_are_aware_datetimes_or_nanoseconds() -> None:
    tokyo = datetime(2026, 5, 1, 9, 0, 0, 123456, tzinfo=timezone(timedelta(hours=9)))
    taken = Span.model_validate(span("a", start_ns=tokyo, end_ns=tokyo.astimezone(UTC)))
    assert taken.start_ns == taken.end_ns
    assert taken.start_ns % 10**9 == 123456000
    for wrong in (datetime(2026, 5, 1), 1_700_000_000, 1_700_000_000_000, 1.7e18, 2**64):  # noqa: DTZ001
        assert "spans.0.start_ns" in refused(spans=[span("a", start_ns=wrong)])


def test_the_message_says_where_it_is_wrong_and_shows_no_content() -> None:
    assert "is there twice" in refused(spans=[span("a"), span("a")])
    assert "the parent of span 'b' is not in the trace" in refused(
        spans=[span("b", parent_span_id="gone")]
    )
    loop = [span("a", parent_span_id="b"), span("b", parent_span_id="a")]
    assert "its own ancestor" in refused(spans=loop)
    assert "its own ancestor" in refused(spans=[span("a", parent_span_id="a")])
    assert "ends before it starts" in refused(spans=[span("a", end_ns=NOW_NS - 1)])
    assert "spans" in refused(spans=[])
    assert "an id is text" in refused(trace_id=1.5)
    assert "spans.0.nme: Extra inputs" in refused(spans=[span("a", nme="x")])
    assert "schema_version" in refused(schema_version=2)
    secret = refused(user_id=["s3cret"], spans=[span("a", usage={"input_tokens": "s3cret"})])
    assert "s3cret" not in secret
    assert "usage.input_tokens" in secret
    assert "no trace" in refused(spans="nothing")
    assert "JSON" in refused(metadata={"x": float("nan")})
    deep: Any = "end"
    for _ in range(5000):
        deep = [deep]
    assert "deep" in refused(spans=[span("a", input=deep)])
    with pytest.raises(InvalidRequest):
        checked_trace(None)


def test_a_parent_may_be_elsewhere_if_that_is_said() -> None:
    elsewhere = span("b", parent_span_id="ab" * 8)
    remote = checked_trace({"trace_id": 1, "name": "t", "spans": [elsewhere | REMOTE]})
    assert remote.roots == remote.spans
    assert not remote.has_root
    later = checked_trace({"trace_id": 1, "name": "t", "spans": [elsewhere], "continues": True})
    assert later.spans[0].parent_span_id == "ab" * 8


REMOTE = {"is_parent_remote": True}


def test_text_that_no_receiver_takes_is_mended() -> None:
    trace = checked_trace(
        {
            "trace_id": "r",
            "name": "a\0b",
            "spans": [span("x\udcff", input={"k\0": ["\udcff", ("t",)]})],
        }
    )
    assert trace.name == "ab"
    assert trace.spans[0].name == "x?"
    assert trace.spans[0].input == {"k": ["?", ["t"]]}
    assert unpacked(packed(trace)[0]) == trace


def test_a_payload_of_a_newer_release_or_a_broken_one_is_said_to_be_that() -> None:
    said = json.loads(zlib.decompress(packed(checked_trace(chat_trace()))[0]))
    newer = zlib.compress(json.dumps(said | {"schema_version": 2}).encode())
    with pytest.raises(Permanent, match="schema version 2"):
        unpacked(newer)
    for broken in (b"", b"x", zlib.compress(b"[]"), zlib.compress(b'{"schema_version":1}')):
        with pytest.raises(Permanent, match="cannot be read"):
            unpacked(broken)


def test_a_trace_of_models_is_the_same_as_one_of_mappings() -> None:
    spans = (Span(span_id="a", name="a", start_ns=NOW_NS, end_ns=NOW_NS),)
    made = Trace(trace_id="run-7", name="t", spans=spans)
    assert made == checked_trace({"trace_id": "run-7", "name": "t", "spans": [span("a")]})
