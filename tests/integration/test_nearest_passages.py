"""A search by vector is one statement, once a process knows the dataset; and never a stale one."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from uuid import UUID

import pytest
from sqlalchemy import delete, event, text, update
from sqlalchemy.orm import Session

from shared.errors import InvalidRequest, NotFound
from shared.models import Dataset, Document, DocumentSegment, db
from tests.fixtures.application import Submit
from worker.providers.embedder import Embedder
from worker.services.dataset.found_passages import FoundPassage
from worker.services.dataset.indexing import index_document
from worker.services.dataset.retrieval import RetrievalNeeds, search
from worker.services.dataset.search_options import SearchOptions
from worker.services.dataset.searched_dataset import Memory
from worker.stores.pgvector_indexes import BuildLimits, keep_indexes
from worker.wiring import embedder, indexing_needs, retrieval_needs

NUMBER = 12
BY_VECTOR = SearchOptions("vector")
QUESTION = "Which lamp is lit?"


@pytest.fixture
def ids(dataset_id: UUID, submit: Submit) -> list[UUID]:
    """Documents of one passage each."""
    files = {f"{n}.txt": f"The lamp number {n} is lit.".encode() for n in range(NUMBER)}
    submissions = submit(files)
    for one in submissions:
        index_document(one.document_id, dataset_id, indexing_needs())
    return [one.document_id for one in submissions]


@pytest.fixture
def needs(ids: list[UUID]) -> RetrievalNeeds:
    """Those of a process that has searched nothing yet."""
    return replace(retrieval_needs(), memory=Memory())


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """What is executed."""
    seen: list[str] = []

    def note(_c: object, _cursor: object, statement: str, *_: object) -> None:
        seen.append(statement)

    event.listen(db.engine, "before_cursor_execute", note)
    yield seen
    event.remove(db.engine, "before_cursor_execute", note)


def build() -> list[str]:
    return list(keep_indexes(db.engine, BuildLimits(least_segments=1, memory_megabytes=32)))


def same(found: Sequence[FoundPassage], other: Sequence[FoundPassage]) -> bool:
    pairs = zip(found, other, strict=True)
    return all(
        replace(one, score=0) == replace(two, score=0)
        and one.score == pytest.approx(two.score, abs=1e-6)
        for one, two in pairs
    )


@pytest.mark.parametrize("way", ["by reading", "by index"])
def test_the_second_search_is_one_statement_and_finds_the_same(
    dataset_id: UUID,
    ids: list[UUID],
    needs: RetrievalNeeds,
    statements: list[str],
    way: str,
) -> None:
    if way == "by index":
        assert len(build()) == 1
    # With a filter it takes the long way.
    longer = search(dataset_id, QUESTION, needs, replace(BY_VECTOR, documents=ids))
    statements.clear()

    found = search(dataset_id, QUESTION, needs, BY_VECTOR)

    assert len(statements) == 1
    assert ("hnsw.ef_search" in statements[0]) is (way == "by index")
    assert len(found) == 5
    assert same(found, longer)
    score = (found[1].score + found[2].score) / 2
    assert (
        search(dataset_id, QUESTION, needs, replace(BY_VECTOR, score_threshold=score)) == found[:2]
    )


@pytest.mark.parametrize("way", ["by reading", "by index"])
def test_it_finds_the_same_where_nobody_watches_statements(
    dataset_id: UUID, needs: RetrievalNeeds, request: pytest.FixtureRequest, way: str
) -> None:
    if way == "by index":
        build()
    search(dataset_id, QUESTION, needs, BY_VECTOR)
    alone = search(dataset_id, QUESTION, needs, BY_VECTOR)

    statements: list[str] = request.getfixturevalue("statements")

    assert search(dataset_id, QUESTION, needs, BY_VECTOR) == alone
    assert len(statements) == 1


@pytest.mark.parametrize("way", ["by reading", "by index"])
def test_hidden_segments_take_no_place(
    dataset_id: UUID, needs: RetrievalNeeds, session: Session, way: str
) -> None:
    if way == "by index":
        build()
    first = search(dataset_id, QUESTION, needs, BY_VECTOR)
    hidden = [one.segment_id for one in first[:3]]
    ours = DocumentSegment.id.in_(hidden)
    session.execute(update(DocumentSegment).where(ours).values(enabled=False))
    session.commit()

    found = search(dataset_id, QUESTION, needs, BY_VECTOR)

    assert len(found) == len(first)
    assert [one.segment_id for one in found[:2]] == [one.segment_id for one in first[3:]]


def test_what_the_search_by_index_sets_ends_with_it(
    dataset_id: UUID, needs: RetrievalNeeds, session: Session
) -> None:
    build()
    with db.engine.connect() as connection:
        before = connection.scalar(text("SHOW hnsw.ef_search"))
        warnings = connection.connection.driver_connection.notices  # type: ignore[union-attr]
    search(dataset_id, QUESTION, needs, BY_VECTOR)
    warnings.clear()
    search(dataset_id, QUESTION, needs, BY_VECTOR)

    # The pool gives the connection that was used last.
    with db.engine.connect() as connection:
        assert connection.scalar(text("SHOW hnsw.ef_search")) == before != "400"
        assert connection.connection.driver_connection.notices == []  # type: ignore[union-attr]


def test_hidden_documents_take_no_place_and_the_rest_is_found(
    dataset_id: UUID, needs: RetrievalNeeds, session: Session
) -> None:
    build()
    search(dataset_id, QUESTION, needs, BY_VECTOR)
    session.execute(update(Document).where(Document.position <= 4).values(enabled=False))
    session.commit()

    found = search(dataset_id, QUESTION, needs, SearchOptions("vector", top_k=100))

    visible = session.query(Document).where(Document.enabled).count()
    assert len(found) == visible < NUMBER


def test_an_index_that_comes_or_goes_is_noticed(
    dataset_id: UUID, needs: RetrievalNeeds, statements: list[str]
) -> None:
    first = search(dataset_id, QUESTION, needs, BY_VECTOR)
    build()
    assert same(search(dataset_id, QUESTION, needs, BY_VECTOR), first)
    statements.clear()
    assert same(search(dataset_id, QUESTION, needs, BY_VECTOR), first)
    assert ["hnsw.ef_search" in one for one in statements] == [True]

    list(keep_indexes(db.engine, BuildLimits(0, 32)))
    assert same(search(dataset_id, QUESTION, needs, BY_VECTOR), first)
    statements.clear()
    assert same(search(dataset_id, QUESTION, needs, BY_VECTOR), first)
    assert ["hnsw.ef_search" in one for one in statements] == [False]


def test_a_dataset_that_has_changed_is_searched_as_it_is_now(
    dataset_id: UUID, needs: RetrievalNeeds, session: Session
) -> None:
    asked: list[str] = []

    def embedders(provider: str, model: str) -> Embedder:
        asked.append(provider)
        return embedder("wordllama", model)

    needs = replace(needs, embedders=embedders)
    search(dataset_id, QUESTION, needs, BY_VECTOR)
    session.execute(update(Dataset).values(embedding_provider="another"))
    session.commit()

    assert len(search(dataset_id, QUESTION, needs, BY_VECTOR)) == 5
    assert asked == ["wordllama", "wordllama", "another"]


def test_what_is_remembered_refuses_nothing(
    dataset_id: UUID, needs: RetrievalNeeds, session: Session
) -> None:
    session.execute(update(Dataset).values(indexing_technique="economy"))
    session.commit()
    for _ in range(2):
        with pytest.raises(InvalidRequest, match="no vectors"):
            search(dataset_id, QUESTION, needs, BY_VECTOR)

    session.execute(update(Dataset).values(indexing_technique="high_quality"))
    session.commit()

    assert len(search(dataset_id, QUESTION, needs, BY_VECTOR)) == 5


def test_a_dataset_that_is_gone_is_not_found(
    dataset_id: UUID, needs: RetrievalNeeds, session: Session
) -> None:
    search(dataset_id, QUESTION, needs, BY_VECTOR)
    session.execute(delete(Dataset))
    session.commit()

    for _ in range(2):
        with pytest.raises(NotFound, match=f"no dataset {dataset_id}"):
            search(dataset_id, QUESTION, needs, BY_VECTOR)
