"""Which segments a question's words lead to, of a dataset in which some words are frequent."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from worker.services.dataset.keyword_candidates import RARE_SHARE, Candidates, candidates_of

SEGMENTS = 100_000


def test_a_rare_word_is_enough_by_itself_and_frequent_ones_are_not() -> None:
    shares = {2: 0.4, 3: 0.5}

    found = candidates_of([1, 2, 3], shares, SEGMENTS, 1_000)

    assert found == Candidates((1,), (), are_all=False)


def test_frequent_words_are_enough_in_company_the_rarest_first() -> None:
    shares = {1: 0.05, 2: 0.1, 3: 0.5}

    found = candidates_of([3, 2, 1], shares, SEGMENTS, 1_000)

    assert found.alone == ()
    assert found.together == ((1, 2),)


def test_a_single_word_is_looked_for_however_frequent_it_is() -> None:
    assert candidates_of([1], {1: 0.9}, SEGMENTS, 1_000) == Candidates((1,), (), are_all=True)


@given(
    shares=st.lists(st.floats(RARE_SHARE, 1), min_size=1, max_size=14),
    most=st.integers(1, 10_000_000),
)
def test_no_way_leads_through_another_and_more_room_loses_no_candidate(
    shares: list[float], most: int
) -> None:
    words = list(range(len(shares)))
    known = dict(enumerate(shares))

    some = candidates_of(words, known, SEGMENTS, most)
    more = candidates_of(words, known, SEGMENTS, 10 * most)
    every = candidates_of(words, known, SEGMENTS, len(words) * SEGMENTS)

    ways = ways_of(some)
    assert ways
    assert not any(one < other for one in ways for other in ways)
    assert every == Candidates(every.alone, (), are_all=True)
    assert set(every.alone) == set(words)
    assert set(some.alone) <= set(more.alone)


def ways_of(found: Candidates) -> list[set[int]]:
    together: Iterable[tuple[int, ...]] = found.together
    return [{one} for one in found.alone] + [set(one) for one in together]
