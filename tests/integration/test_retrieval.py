"""Search by meaning, by words and by both: what is found, what is left out, what is refused."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from sqlalchemy import delete, event, func, select, update
from sqlalchemy.orm import Session

from shared.errors import InvalidRequest, NotFound
from shared.models import Dataset, Document, DocumentSegment, SegmentKeywords, db
from tests.fixtures.application import Submit
from worker.cli.overview import dataset_overview
from worker.providers.embedder import Embedder, Embeddings
from worker.services.dataset.explaining import Bounds, explain
from worker.services.dataset.found_passages import FoundPassage
from worker.services.dataset.indexing import index_document
from worker.services.dataset.retrieval import search
from worker.services.dataset.search_options import SearchOptions
from worker.stores.pgvector import PgVectorStore
from worker.stores.vector_stores import VectorStores
from worker.wiring import embedder, indexing_needs, retrieval_needs

METHODS = ("vector", "keyword", "hybrid")
FILES = {
    "lamp.txt": b"The lighthouse lamp turns once in twelve seconds.",
    "horn.txt": b"The fog horn sounds twice a minute in thick weather.",
    "boat.txt": b"The supply boat brings lamp oil and flour on Tuesdays.",
    "grain.txt": "低温冰柜的温度是零下八十度。".encode(),
}

Ids = dict[str, UUID]


@pytest.fixture
def ids(session: Session, dataset_id: UUID, submit: Submit) -> Ids:
    """The files' documents, indexed."""
    submissions = submit(FILES)
    for one in submissions:
        index_document(one.document_id, dataset_id, indexing_needs())
    return {one.name: one.document_id for one in submissions}


def names(found: Sequence[FoundPassage]) -> list[str]:
    return [one.document_name for one in found]


class Watched:
    """The real embedder; calls back before each question."""

    def __init__(self, before: Callable[[], None]) -> None:
        self._real: Embedder = embedder("wordllama", "l2_supercat_256")
        self.model, self.dimension = self._real.model, self._real.dimension
        self.is_costly = self._real.is_costly
        self._before = before

    def embed(self, texts: Sequence[str]) -> Embeddings:
        self._before()
        return self._real.embed(texts)

    def count_tokens(self, text: str) -> int:
        return self._real.count_tokens(text)


def test_keywords_find_whole_words_rare_ones_first(dataset_id: UUID, ids: Ids) -> None:
    options = SearchOptions("keyword")
    found = search(dataset_id, "the oil of the lamps", retrieval_needs(), options)

    assert names(found) == ["boat.txt", "lamp.txt"]
    assert 1 > found[0].score > found[1].score > 0
    assert names(search(dataset_id, "冰柜温度", retrieval_needs(), options)) == ["grain.txt"]
    assert search(dataset_id, "the of and", retrieval_needs(), options) == []
    assert search(dataset_id, "submarine", retrieval_needs(), options) == []


def test_a_keyword_score_is_the_share_of_the_question_that_is_there(
    dataset_id: UUID, ids: Ids
) -> None:
    options = SearchOptions("keyword")
    (whole,) = search(dataset_id, "fog horn", retrieval_needs(), options)
    (half,) = search(dataset_id, "fog submarine", retrieval_needs(), options)

    assert whole.score > 2 * half.score > 0


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_the_passage(dataset_id: UUID, ids: Ids, method: str) -> None:
    found = search(dataset_id, "Which fog horn sounds?", retrieval_needs(), SearchOptions(method))

    assert names(found)[0] == "horn.txt"
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert len({one.segment_id for one in found}) == len(found)


def test_hybrid_keeps_the_order_of_vectors_where_no_word_is_known(
    dataset_id: UUID, ids: Ids
) -> None:
    question = "beacon rotation period"
    by_vector = search(dataset_id, question, retrieval_needs(), SearchOptions("vector"))
    hybrid = search(dataset_id, question, retrieval_needs(), SearchOptions("hybrid"))

    assert search(dataset_id, question, retrieval_needs(), SearchOptions("keyword")) == []
    positive = [one.document_id for one in by_vector if one.score > 0]
    assert [one.document_id for one in hybrid][: len(positive)] == positive


@pytest.mark.parametrize("method", METHODS)
def test_top_k_is_filled_up_past_what_is_disabled(
    session: Session, dataset_id: UUID, submit: Submit, method: str
) -> None:
    files = {f"{number}.txt": f"Lamp number {number}.".encode() for number in range(8)}
    submissions = submit(files)
    for one in submissions:
        index_document(one.document_id, dataset_id, indexing_needs())
    best = search(dataset_id, "lamp number", retrieval_needs(), SearchOptions(method, top_k=8))
    assert len(best) == 8
    session.execute(
        update(DocumentSegment)
        .where(DocumentSegment.id == best[0].segment_id)
        .values(enabled=False)
    )
    session.execute(
        update(Document).where(Document.id == best[1].document_id).values(enabled=False)
    )
    session.execute(
        update(Document).where(Document.id == best[2].document_id).values(archived=True)
    )
    session.commit()

    found = search(dataset_id, "lamp number", retrieval_needs(), SearchOptions(method, top_k=5))

    left_out = {one.segment_id for one in best[:3]}
    assert len(found) == 5
    assert not left_out & {one.segment_id for one in found}


@pytest.mark.parametrize("method", METHODS)
def test_documents_and_metadata_filter_before_top_k(
    session: Session, dataset_id: UUID, ids: Ids, method: str
) -> None:
    for name, metadata in {
        "lamp.txt": {"year": 2023, "kind": "light", "draft": False},
        "horn.txt": {"year": 2024, "kind": "sound"},
        "boat.txt": {"year": "2024", "kind": "light"},
    }.items():
        session.execute(
            update(Document).where(Document.id == ids[name]).values(doc_metadata=metadata)
        )
    session.commit()

    def found(**options: object) -> set[str]:
        asked = SearchOptions(method, **options)
        return set(names(search(dataset_id, "lamp horn", retrieval_needs(), asked)))

    assert found(documents=[ids["boat.txt"]], top_k=1) == {"boat.txt"}
    assert found(documents=[]) == set()
    assert found(metadata={"kind": "light"}) == {"lamp.txt", "boat.txt"}
    assert found(metadata={"year": 2024}) == {"horn.txt"}
    assert found(metadata={"year": [2023, "2024"]}) == {"lamp.txt", "boat.txt"}
    assert found(metadata={"kind": "light", "year": 2023.0}) == {"lamp.txt"}
    assert found(metadata={"draft": False}) == {"lamp.txt"}
    assert found(metadata={"year": 10**40}) == found(metadata={"it's \"$.odd": "%(x)s"}) == set()
    assert found(metadata={"kind": "none"}) == found(metadata={"other": 1}) == set()
    assert found(metadata={"kind": ["light"]}, documents=[ids["horn.txt"]]) == set()


def test_a_filter_does_not_change_a_score(dataset_id: UUID, ids: Ids) -> None:
    for method in METHODS:
        (every, *_) = search(dataset_id, "fog horn", retrieval_needs(), SearchOptions(method))
        only = SearchOptions(method, documents=[ids["horn.txt"]])
        (one,) = search(dataset_id, "fog horn", retrieval_needs(), only)
        assert one.score == pytest.approx(every.score)


@pytest.mark.parametrize("method", METHODS)
def test_the_threshold_leaves_out_what_scores_less(dataset_id: UUID, ids: Ids, method: str) -> None:
    question = "lamp oil"
    every = search(dataset_id, question, retrieval_needs(), SearchOptions(method))
    assert len(every) > 1

    options = SearchOptions(method, score_threshold=every[0].score - 1e-9)

    assert names(search(dataset_id, question, retrieval_needs(), options)) == ["boat.txt"]


def test_the_method_follows_from_what_the_dataset_has(
    session: Session, dataset_id: UUID, ids: Ids
) -> None:
    def scores(method: str | None) -> list[float]:
        found = search(dataset_id, "fog horn", retrieval_needs(), SearchOptions(method))
        return [one.score for one in found]

    assert scores(None) == scores("hybrid") != scores("vector")
    without_keywords(session)
    assert scores(None) == scores("vector")
    with pytest.raises(InvalidRequest, match="have no keywords: search it by vector"):
        scores("hybrid")
    with pytest.raises(InvalidRequest, match="INDEXING_KEYWORDS=true"):
        scores("keyword")


def without_keywords(session: Session) -> None:
    session.execute(delete(SegmentKeywords))
    session.execute(update(Document).values(keyword_segments=None, keyword_words=None))
    session.commit()


def test_a_document_that_words_do_not_find_says_so(
    session: Session, dataset_id: UUID, ids: Ids
) -> None:
    one = ids["lamp.txt"]
    bounds = Bounds(64, 1000, 30, 60, 30, 90)
    assert dataset_overview(session, dataset_id)["without_keywords"] == 0
    assert "keywords" not in explain(session, one, bounds).summary
    session.execute(update(Document).where(Document.id == one).values(keyword_segments=None))

    assert dataset_overview(session, dataset_id)["without_keywords"] == 1
    verdict = explain(session, one, bounds)
    assert "no keywords: only its vectors find it" in verdict.summary
    assert verdict.way_out.endswith(f"rag-worker documents duplicate {one}")
    session.execute(update(Document).values(keyword_segments=None))
    assert dataset_overview(session, dataset_id)["without_keywords"] == 0
    assert "keywords" not in explain(session, one, bounds).summary


def test_documents_without_keywords_are_named_beside_those_that_have_some(
    session: Session, dataset_id: UUID, ids: Ids, caplog: pytest.LogCaptureFixture
) -> None:
    session.execute(
        update(Document).where(Document.id == ids["horn.txt"]).values(keyword_segments=None)
    )
    session.commit()

    search(dataset_id, "lamp", retrieval_needs(), SearchOptions("hybrid"))

    assert "1 documents of dataset" in caplog.text
    assert "have no keywords" in caplog.text


@pytest.mark.parametrize("method", ["vector", "hybrid"])
def test_an_economy_dataset_says_that_it_has_no_vectors(
    session: Session, dataset_id: UUID, method: str
) -> None:
    session.execute(update(Dataset).values(indexing_technique="economy"))
    session.commit()

    with pytest.raises(InvalidRequest, match=r"no vectors.*search by keyword"):
        search(dataset_id, "lamp", retrieval_needs(), SearchOptions(method))


@pytest.mark.parametrize("method", [None, *METHODS])
def test_an_empty_dataset_has_no_answer(dataset_id: UUID, method: str | None) -> None:
    assert search(dataset_id, "lamp", retrieval_needs(), SearchOptions(method)) == []


def test_what_does_not_exist_is_named(dataset_id: UUID, ids: Ids) -> None:
    stranger = uuid4()
    with pytest.raises(NotFound, match=f"no document {stranger}"):
        search(
            dataset_id,
            "lamp",
            retrieval_needs(),
            SearchOptions(documents=[ids["lamp.txt"], stranger]),
        )
    with pytest.raises(NotFound, match=f"no dataset {stranger}"):
        search(stranger, "lamp", retrieval_needs())


@pytest.mark.parametrize("question", ["", "  \n", "x" * 8_001, "lamp\ud800", "lamp\0"])
def test_a_question_is_neither_empty_nor_endless_nor_broken(
    dataset_id: UUID, question: str
) -> None:
    with pytest.raises(InvalidRequest, match="question"):
        search(dataset_id, question, retrieval_needs())


def test_the_question_is_embedded_while_no_transaction_is_open(dataset_id: UUID, ids: Ids) -> None:
    open_then: list[int] = []
    watched = Watched(lambda: open_then.append(db.engine.pool.checkedout()))
    before = db.engine.pool.checkedout()

    search(dataset_id, "lamp", replace(retrieval_needs(), embedders=lambda *_: watched))

    assert open_then == [before]


def test_a_model_that_changes_meanwhile_embeds_the_question_anew(
    session: Session, dataset_id: UUID, ids: Ids
) -> None:
    asked: list[str] = []

    def change_once() -> None:
        if len(asked) == 1:
            session.execute(update(Dataset).values(embedding_provider="another"))
            session.commit()

    watched = Watched(change_once)

    def embedders(provider: str, model: str) -> Embedder:
        asked.append(provider)
        return watched

    search(dataset_id, "lamp", replace(retrieval_needs(), embedders=embedders))

    assert asked == ["wordllama", "another"]


def test_a_search_sees_one_moment(
    session: Session, dataset_id: UUID, ids: Ids, submit: Submit
) -> None:
    """A new version is switched on between the two rankings: none of it is seen."""
    submit({"lamp.txt": b"The fog lamp is a new one."})
    needs = indexing_needs()
    switched: list[UUID] = []

    class Switching(PgVectorStore):
        def search(self, *arguments: object, **options: object) -> object:
            found = super().search(*arguments, **options)
            if not switched:
                switched.append(ids["lamp.txt"])
                index_document(ids["lamp.txt"], dataset_id, needs)
            return found

    options = SearchOptions("hybrid")
    found = search(
        dataset_id, "lamp", replace(retrieval_needs(), vectors=VectorStores(Switching())), options
    )

    assert switched
    old = [one.content for one in found if one.document_name == "lamp.txt"]
    assert old == ["The lighthouse lamp turns once in twelve seconds."]
    (new, *_) = search(dataset_id, "new fog lamp", retrieval_needs(), options)
    assert new.content == "The fog lamp is a new one."


def test_a_search_asks_the_same_number_of_queries_however_much_there_is(
    session: Session, dataset_id: UUID, ids: Ids
) -> None:
    statements: list[str] = []
    # The first search of a process looks at the dataset besides.
    search(dataset_id, "lamp", retrieval_needs(), SearchOptions(top_k=1))
    event.listen(db.engine, "before_cursor_execute", lambda *a: statements.append(a[2]))

    search(dataset_id, "lamp", retrieval_needs(), SearchOptions(top_k=1))
    few = len(statements)
    statements.clear()
    search(dataset_id, "lamp", retrieval_needs(), SearchOptions(top_k=100))

    assert len(statements) == few <= 6
    assert session.scalar(select(func.count()).select_from(DocumentSegment)) == 4
