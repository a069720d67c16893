"""Which documents share a message."""

from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st

from shared.models.dataset import ECONOMY, HIGH_QUALITY
from shared.submitting.grouping import GROUP_BYTES, GROUP_DOCUMENTS, grouped, most_together

Sizes = list[tuple[UUID, int]]
documents = st.lists(st.tuples(st.uuids(), st.integers(0, 2 * GROUP_BYTES)), max_size=40)
bounds = st.integers(1, GROUP_DOCUMENTS)


@given(documents, bounds)
def test_every_document_is_announced_once_and_in_order(sizes: Sizes, most: int) -> None:
    assert [one for group in grouped(sizes, most) for one in group] == [one for one, _ in sizes]


@given(documents, bounds)
def test_a_group_is_small(sizes: Sizes, most: int) -> None:
    remaining = iter(sizes)
    for group in grouped(sizes, most):
        total = sum(next(remaining)[1] for _ in group)
        assert len(group) <= most
        assert len(group) == 1 or total <= GROUP_BYTES


def test_small_documents_travel_together() -> None:
    sizes = [(uuid4(), 10) for _ in range(GROUP_DOCUMENTS + 1)]
    assert [len(group) for group in grouped(sizes, GROUP_DOCUMENTS)] == [GROUP_DOCUMENTS, 1]


def test_documents_that_wait_for_a_model_share_a_message_with_fewer() -> None:
    quick = most_together(HIGH_QUALITY, "wordllama")
    assert most_together(ECONOMY, "openai_compatible") == quick
    assert most_together(HIGH_QUALITY, "openai_compatible") < quick
