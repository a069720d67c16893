"""Whatever tree a producer has: parents stand before their children, and nothing is lost."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from shared.submitting.trace_merging import merged
from shared.submitting.trace_payload import checked_trace, packed, unpacked
from shared.submitting.trace_redaction import Redaction, normal_keys
from tests.fixtures.traces import NOW_NS, span

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@st.composite
def forests(draw: Any) -> list[dict[str, Any]]:
    """Spans in any order, each below an earlier one or a root."""
    count = draw(st.integers(1, 12))
    spans = []
    for number in range(count):
        parent = draw(st.none() | st.integers(0, number - 1)) if number else None
        start_ns = NOW_NS + draw(st.integers(0, 9))
        spans.append(
            span(
                f"node {number}",
                parent_span_id=None if parent is None else f"node {parent}",
                start_ns=start_ns,
                end_ns=start_ns + draw(st.integers(0, 9)),
                input=draw(JSON),
            )
        )
    return draw(st.permutations(spans))


@given(forests())
def test_parents_come_first_and_what_is_stored_is_read_again(spans: list[dict[str, Any]]) -> None:
    trace = checked_trace({"trace_id": "r", "name": "t", "spans": spans})
    assert sorted(one.name for one in trace.spans) == sorted(one["name"] for one in spans)
    seen: set[str | None] = {None}
    for one in trace.spans:
        assert one.parent_span_id in seen
        seen.add(one.span_id)
    assert unpacked(packed(trace)[0]) == trace


@given(forests(), st.data())
def test_parts_make_the_same_whole_in_any_order(spans: list[dict[str, Any]], data: Any) -> None:
    whole = checked_trace({"trace_id": "r", "name": "t", "spans": spans, "continues": True})
    cut = data.draw(st.integers(0, len(spans)))
    parts = [part for part in (spans[:cut], spans[cut:]) if part]
    made = None
    for part in data.draw(st.permutations(parts)):
        later = checked_trace({"trace_id": "r", "name": "t", "spans": part, "continues": True})
        made = later if made is None else merged(made, later)
        assert made is not None
    assert made is not None
    assert {one.span_id: one for one in made.spans} == {one.span_id: one for one in whole.spans}
    assert not made.awaits_parents


@given(forests())
def test_masking_twice_is_masking_once(spans: list[dict[str, Any]]) -> None:
    rules = Redaction(keys=normal_keys(["a", "0"]), characters=100)
    trace = checked_trace({"trace_id": "r", "name": "t", "spans": spans})
    once = unpacked(packed(trace, rules)[0])
    assert unpacked(packed(once, rules)[0]) == once
