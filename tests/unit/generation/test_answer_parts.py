"""Passages, citations and the prompt, without a server."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest

from shared.errors import InvalidRequest, NotFound, Permanent
from worker.delivery.lease import Lease
from worker.providers.token_estimate import estimate_tokens
from worker.services.generation.answer_claiming import ClaimedQuestion, Turn
from worker.services.generation.answer_ending import with_citations
from worker.services.generation.answer_needs import Passage
from worker.services.generation.answer_passages import fitted, passages_for
from worker.services.generation.answer_prompt import prompt

FIRST, SECOND = uuid4(), uuid4()
ASKED = ClaimedQuestion(
    lease=Lease(None, uuid4(), 1, 1, 0, 60),  # type: ignore[arg-type]
    tenant_id=uuid4(),
    conversation_id=uuid4(),
    dataset_ids=[FIRST, SECOND],
    question="and in winter?",
    wishes={},
    restarts=0,
    last_error=None,
    is_cancelled=False,
    summary=None,
    turns=[],
)


def passage(content: str, score: float = 0.5) -> Passage:
    return Passage(FIRST, uuid4(), "a.txt", uuid4(), 0, None, score, content)


def needs(found: Mapping[UUID, Any], passages: int = 3) -> Any:
    asked: list[str] = []

    def retrieve(dataset_id: UUID, question: str, wishes: Mapping[str, Any]) -> Sequence[Passage]:
        asked.append(question)
        answer = found[dataset_id]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return SimpleNamespace(
        retrieve=retrieve, limits=SimpleNamespace(passages=passages), asked=asked
    )


def test_of_several_datasets_the_best_of_each_come_first() -> None:
    ours = [passage("a1", 0.9), passage("a2", 0.8), passage("a3", 0.7)]
    theirs = [passage("b1", 0.2), passage("b2", 0.1)]
    found = passages_for(ASKED, needs({FIRST: ours, SECOND: theirs}))
    assert [one.content for one in found] == ["a1", "b1", "a2"]


def test_a_dataset_that_is_gone_is_left_out_and_a_wrong_search_has_its_reason() -> None:
    ours = [passage("a1")]
    found = passages_for(ASKED, needs({FIRST: ours, SECOND: NotFound("gone")}))
    assert found == ours
    with pytest.raises(Permanent, match="deleted"):
        passages_for(ASKED, needs({FIRST: NotFound("gone"), SECOND: NotFound("gone")}))
    with pytest.raises(Permanent, match="no vectors"):
        passages_for(ASKED, needs({FIRST: ours, SECOND: InvalidRequest("no vectors")}))


def test_in_a_conversation_the_question_before_is_searched_along() -> None:
    following = replace(ASKED, dataset_ids=[FIRST], turns=[Turn("How warm is it?", "Warm.")])
    searched = needs({FIRST: [passage("a1"), passage("a2")]})
    assert len(passages_for(following, searched)) == 2
    assert searched.asked == ["and in winter?", "How warm is it?\nand in winter?"]


def test_passages_fit_their_tokens_and_one_is_never_too_many() -> None:
    small, large = passage("word " * 10), passage("word " * 100)
    assert fitted([small, large, small], 25) == [small, small]
    (cut,) = fitted([large], 25)
    assert estimate_tokens(cut.content) <= 25
    assert large.content.startswith(cut.content)
    assert fitted([], 25) == []


def test_what_the_answer_cites_is_marked() -> None:
    sources = [{"number": number} for number in (1, 2, 3, 4, 5)]

    def cited(answer: str) -> list[int]:
        return [one["number"] for one in with_citations(sources, answer) if one["is_cited"]]

    assert cited("It is so [1]. Also [3][4].") == [1, 3, 4]
    assert cited("是的[1、2],还有[5].") == [1, 2, 5]
    assert cited("see [9], a[2024], [x1]") == []


def test_the_summary_and_the_turns_share_their_tokens() -> None:
    asked = replace(
        ASKED,
        summary="long ago " * 400,
        turns=[Turn("old " * 100, "answer " * 100), Turn("new " * 10, "answer " * 10)],
    )
    messages = prompt(asked, [], 100, "Be kind.")
    assert [one.role for one in messages] == ["system", "user", "assistant", "user"]
    assert messages[1].content == "new " * 10
    assert messages[0].content.endswith("Be kind.\n")
    assert "long ago" in messages[-1].content
    assert estimate_tokens(messages[-1].content) < 200
    assert "No passage was found." in messages[-1].content
