"""Two rankings become one: reciprocal ranks, each weighed by its score."""

from collections import defaultdict
from collections.abc import Sequence
from uuid import UUID

from worker.stores.vectors import Match

# Measured (docs/retrieval.md has the table): by ranks alone a passage that both sides find
# mediocre passes one that a side is sure of, and hybrid was worse than keywords by themselves.
_VECTOR_WEIGHT = 1.0
_KEYWORD_WEIGHT = 3.0
#: How slowly a place further down loses weight.
_RANK_OFFSET = 60


def fuse(by_vector: Sequence[Match], by_keyword: Sequence[Match]) -> list[Match]:
    """The passages of two rankings (best first), best first.

    The score is 1 for a passage that comes first on both sides with 1 on both.
    A side that finds nothing leaves the other's order as it is.
    """
    scores: defaultdict[UUID, float] = defaultdict(float)
    for weight, matches in ((_VECTOR_WEIGHT, by_vector), (_KEYWORD_WEIGHT, by_keyword)):
        for place, match in enumerate(matches):
            scores[match.id] += (
                weight * max(match.score, 0.0) * _RANK_OFFSET / (_RANK_OFFSET + place)
            )
    total = _VECTOR_WEIGHT + _KEYWORD_WEIGHT
    fused = [Match(found, score / total) for found, score in scores.items()]
    # Of equal scores the order stays: that of the vectors, then that of the words.
    return sorted(fused, key=lambda match: -match.score)
