"""Which documents share a message."""

from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st

from shared.submitting.grouping import GROUP_BYTES, GROUP_DOCUMENTS, grouped

Sizes = list[tuple[UUID, int]]
documents = st.lists(st.tuples(st.uuids(), st.integers(0, 2 * GROUP_BYTES)), max_size=40)


@given(documents)
def test_every_document_is_announced_once_and_in_order(sizes: Sizes) -> None:
    assert [one for group in grouped(sizes) for one in group] == [one for one, _ in sizes]


@given(documents)
def test_a_group_is_small(sizes: Sizes) -> None:
    remaining = iter(sizes)
    for group in grouped(sizes):
        total = sum(next(remaining)[1] for _ in group)
        assert len(group) <= GROUP_DOCUMENTS
        assert len(group) == 1 or total <= GROUP_BYTES


def test_small_documents_travel_together() -> None:
    sizes = [(uuid4(), 10) for _ in range(GROUP_DOCUMENTS + 1)]
    assert [len(group) for group in grouped(sizes)] == [GROUP_DOCUMENTS, 1]
