"""Which segments of a large dataset are worth a look: those that hold much of the question.

How much a word weighs follows from how rare it is: what several words weigh together grows
as fewer segments have all of them. So the sets of words are taken in the order of how many
segments have them, few first, as long as all their segments together are not too many.
Whoever holds more of the question than any set that was left out is among them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import prod

#: What is taken for the share of a word that is not known to be frequent.
RARE_SHARE = 0.0001
#: Words of a question that are looked at in company, the rarest; all others alone.
_COMBINED = 10
_MOST_TOGETHER = 3
_MOST_SETS = 12


@dataclass(frozen=True, slots=True)
class Candidates:
    """Segments that have one of the words, or all words of one of the sets.

    Attributes:
        alone: words that are enough by themselves.
        together: sets of words that are enough if a segment has all of one.
        are_all: whether no segment with any word of the question is left out.
    """

    alone: tuple[int, ...]
    together: tuple[tuple[int, ...], ...]
    are_all: bool


def candidates_of(
    words: Sequence[int], shares: Mapping[int, float], segments: int, most: int
) -> Candidates:
    """The candidates for a question's best segments.

    Args:
        words: the question's, each once.
        shares: in which share of the segments the frequent ones are.
        segments: of the dataset.
        most: how many candidates there may be, as far as can be foreseen.
    """
    share = {word: shares.get(word, RARE_SHARE) for word in words}
    if segments * sum(share.values()) <= most:
        return Candidates(tuple(words), (), are_all=True)
    rare_first = sorted(words, key=lambda word: share[word])
    sets: list[tuple[int, ...]] = [(word,) for word in rare_first]
    for number in range(2, _MOST_TOGETHER + 1):
        sets += combinations(rare_first[:_COMBINED], number)
    expected = {one: segments * prod(share[word] for word in one) for one in sets}
    chosen: dict[tuple[int, ...], float] = {}
    # Of two that as many segments have, the larger first: so none is part of a later one.
    for one in sorted(sets, key=lambda one: (expected[one], -len(one))):
        # Whatever has all words of a larger set has all of this one.
        kept = {other: rows for other, rows in chosen.items() if not set(one) <= set(other)}
        if chosen and sum(kept.values()) + expected[one] > most:
            break
        chosen = {**kept, one: expected[one]}
    alone = tuple(one[0] for one in chosen if len(one) == 1)
    together = tuple(one for one in chosen if len(one) > 1)
    return Candidates(alone, together[:_MOST_SETS], len(alone) == len(words))
