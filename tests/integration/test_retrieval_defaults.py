"""A dataset's own way of being searched: set by producers, read where a caller says nothing."""

from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from shared.errors import InvalidRequest, NotFound
from shared.models import Dataset
from shared.models.dataset import ECONOMY
from shared.models.retrieval_model import RetrievalModel, parse_retrieval_model
from shared.submitting.embedding_models import PROVIDERS
from shared.submitting.retrieval import retrieval_of, set_retrieval
from tests.fixtures.application import Submit
from tests.fixtures.commands import rag_worker
from worker.providers import wordllama
from worker.services.dataset.indexing import index_document
from worker.services.dataset.retrieval import search
from worker.services.dataset.search_options import SearchOptions
from worker.wiring import COSTLY_EMBEDDERS, LOCAL_EMBEDDERS, indexing_needs, retrieval_needs

DIFYS = {
    "search_method": "semantic_search",
    "reranking_enable": False,
    "reranking_model": {"reranking_provider_name": "", "reranking_model_name": ""},
    "weights": None,
    "top_k": 2,
    "score_threshold_enabled": False,
    "score_threshold": 0.5,
}


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({}, RetrievalModel()),
        (DIFYS, RetrievalModel("vector", 2, None)),
        ({**DIFYS, "score_threshold_enabled": True}, RetrievalModel("vector", 2, 0.5)),
        ({"search_method": "full_text_search"}, RetrievalModel("keyword")),
        ({"search_method": "keyword", "score_threshold": 1}, RetrievalModel("keyword", None, 1.0)),
        ({"search_method": "hybrid_search", "top_k": None}, RetrievalModel("hybrid")),
    ],
)
def test_what_dify_writes_is_understood(given: dict[str, Any], read: RetrievalModel) -> None:
    assert parse_retrieval_model(given) == read
    assert parse_retrieval_model(read.as_json()) == read


WRONG: list[tuple[Any, str]] = [
    ([], "is an object"),
    ({"topk": 3}, "there is no topk, only: search_method, top_k"),
    ({"search_method": "by luck"}, "no search_method 'by luck', only: semantic_search"),
    ({"search_method": ["vector"]}, "no search_method"),
    ({"top_k": 0}, "top_k is a whole number from 1 to 100, not 0"),
    ({"top_k": 101}, "top_k"),
    ({"top_k": True}, "top_k"),
    ({"top_k": 2.5}, "top_k"),
    ({"score_threshold": 1.1}, "score_threshold is a number from 0 to 1"),
    ({"score_threshold": float("nan")}, "score_threshold"),
    ({"score_threshold_enabled": "yes"}, "score_threshold_enabled is true or false"),
    ({"reranking_enable": True}, "set it to false"),
]


@pytest.mark.parametrize(("given", "reason"), WRONG)
def test_what_is_wrong_is_named_and_nothing_is_stored(
    session: Session, dataset_id: UUID, given: Any, reason: str
) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        set_retrieval(session, dataset_id, given)
    assert retrieval_of(session, dataset_id) == RetrievalModel()


def test_a_search_takes_what_is_set_where_its_caller_says_nothing(
    session: Session, dataset_id: UUID, submit: Submit
) -> None:
    for one in submit({f"{n}.txt": f"The lamp number {n} is lit.".encode() for n in range(9)}):
        index_document(one.document_id, dataset_id, indexing_needs())

    def found(**options: Any) -> list[float]:
        session.commit()
        needs = retrieval_needs()
        return [one.score for one in search(dataset_id, "lamp 3", needs, SearchOptions(**options))]

    assert len(found()) == 5
    set_retrieval(session, dataset_id, {"search_method": "semantic_search", "top_k": 7})
    by_vector = found()
    assert len(by_vector) == 7
    assert by_vector == found(method="vector", top_k=9)[:7]
    assert by_vector != found(method="keyword")
    assert len(found(top_k=3)) == 3

    cut = (by_vector[1] + by_vector[2]) / 2
    set_retrieval(session, dataset_id, RetrievalModel("vector", 7, cut))
    assert found() == by_vector[:2]
    assert len(found(score_threshold=0)) == 7
    set_retrieval(session, dataset_id, {})
    assert len(found()) == 5


def test_what_dify_itself_wrote_does_not_stop_a_search(session: Session, dataset_id: UUID) -> None:
    theirs = {**DIFYS, "reranking_enable": True, "something_new": 1}
    session.execute(update(Dataset).values(retrieval_model=theirs))
    session.commit()
    assert retrieval_of(session, str(dataset_id)) == RetrievalModel("vector", 2)
    assert search(dataset_id, "lamp", retrieval_needs()) == []


def test_a_dataset_without_vectors_is_searched_by_words_whatever_is_set(
    session: Session, dataset_id: UUID
) -> None:
    set_retrieval(session, dataset_id, {"search_method": "hybrid_search"})
    session.execute(update(Dataset).values(indexing_technique=ECONOMY))
    session.commit()
    assert search(dataset_id, "lamp", retrieval_needs()) == []
    with pytest.raises(InvalidRequest, match="keyword_search"):
        set_retrieval(session, dataset_id, {"search_method": "semantic_search"})
    set_retrieval(session, dataset_id, {"search_method": "keyword_search"})


def test_an_id_that_is_none_or_unknown_is_refused(session: Session) -> None:
    for call in (retrieval_of, lambda *given: set_retrieval(*given, {})):
        with pytest.raises(InvalidRequest, match="is not a UUID"):
            call(session, "nope")
        with pytest.raises(NotFound):
            call(session, uuid4())


def test_it_is_shown_and_set_by_commands(tmp_path: Path, dataset_id: UUID) -> None:
    path = tmp_path / "retrieval.json"
    path.write_text('{"search_method": "hybrid_search", "top_k": 4}')
    place = ("--tenant", "acme", "--dataset", "manuals")
    stored = {"search_method": "hybrid_search", "top_k": 4}
    set_it = rag_worker("datasets", "retrieval", "set", path, *place, "--json")
    assert set_it.json() == stored
    assert rag_worker("datasets", "retrieval", "show", *place, "--json").json() == stored
    path.write_text('{"top_k": 0}')
    refused = rag_worker("datasets", "retrieval", "set", path, *place)
    assert "top_k is a whole number" in refused.failed_in_one_line(4)


def test_producers_know_the_providers_that_workers_have() -> None:
    assert set(PROVIDERS) == {*LOCAL_EMBEDDERS, *COSTLY_EMBEDDERS}
    assert PROVIDERS["wordllama"] == tuple(wordllama.MODELS)
