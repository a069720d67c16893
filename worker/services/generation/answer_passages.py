"""The passages an answer is made from: searched, put in one order, cut to what a prompt takes."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from shared.errors import InvalidRequest, NotFound, Permanent
from shared.submitting.files import storable
from worker.providers.token_estimate import estimate_tokens
from worker.services.generation.answer_claiming import ClaimedQuestion
from worker.services.generation.answer_needs import AnswerNeeds, Passage

#: Of reciprocal rank fusion (Cormack, Clarke, Buettcher, SIGIR 2009).
_RANK_CONSTANT = 60
_LONGEST_SEARCH_CHARACTERS = 8_000


def passages_for(asked: ClaimedQuestion, needs: AnswerNeeds) -> list[Passage]:
    """What was found in all datasets, best first.

    A question in a conversation is searched twice, by itself and with the one before it:
    "and in winter?" says nothing alone.

    Raises:
        Permanent: none of the datasets is there any more, or one cannot be searched that way.
        ServiceUnavailable: (transient) the embedding provider does not answer.
    """
    found: list[Sequence[Passage]] = []
    gone = 0
    wishes = {"top_k": needs.limits.passages, **asked.wishes}
    for dataset_id in asked.dataset_ids:
        try:
            found += [needs.retrieve(dataset_id, one, wishes) for one in _searches(asked)]
        except NotFound:
            gone += 1  # deleted since
        except InvalidRequest as refused:
            raise Permanent(f"dataset {dataset_id}: {refused}") from refused
    if gone == len(asked.dataset_ids):
        raise Permanent("the datasets that were asked are deleted")
    return _fused(found)[: wishes["top_k"]]


def _searches(asked: ClaimedQuestion) -> Iterator[str]:
    yield asked.question
    if asked.turns:
        room = _LONGEST_SEARCH_CHARACTERS - len(asked.question) - 1
        if room > 0:
            yield f"{asked.turns[-1].question[:room]}\n{asked.question}"


def _fused(lists: Sequence[Sequence[Passage]]) -> list[Passage]:
    """By rank: scores of two datasets, or of two searches, say nothing of each other."""
    if len(lists) == 1:
        return list(lists[0])
    weights: dict[UUID, float] = {}
    best: dict[UUID, Passage] = {}
    for one in lists:
        for rank, passage in enumerate(one):
            key = passage.segment_id
            weights[key] = weights.get(key, 0.0) + 1 / (_RANK_CONSTANT + rank)
            if key not in best or best[key].score < passage.score:
                best[key] = passage
    return sorted(best.values(), key=lambda one: -weights[one.segment_id])


def fitted(passages: Sequence[Passage], tokens: int) -> list[Passage]:
    """As many as fit, from the best; of the first one at least its beginning."""
    kept: list[Passage] = []
    for passage in passages:
        cost = estimate_tokens(passage.content)
        if cost <= tokens:
            kept.append(passage)
            tokens -= cost
        elif not kept:
            return [replace(passage, content=cut_to_tokens(passage.content, tokens))]
    return kept


def cut_to_tokens(content: str, tokens: int) -> str:
    """The beginning of a text, of about so many tokens."""
    characters = len(content)
    while (cost := estimate_tokens(content[:characters])) > tokens:
        characters = min(characters - 1, characters * tokens // cost)
    return content[:characters]


def as_sources(passages: Sequence[Passage]) -> list[dict[str, Any]]:
    """What the row and the readers get of them, numbered as the answer cites them."""
    return [
        {
            "number": number,
            "dataset_id": str(one.dataset_id),
            "document_id": str(one.document_id),
            "document_name": storable(one.document_name),
            "segment_id": str(one.segment_id),
            "position": one.position,
            "page": one.page,
            "score": round(one.score, 4),
            "content": storable(one.content),
        }
        for number, one in enumerate(passages, start=1)
    ]
