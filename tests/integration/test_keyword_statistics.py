"""Large datasets are searched by what is known of their words: the same is found, reading less."""

from itertools import product
from uuid import UUID

import pytest
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session, sessionmaker

from shared.contract import INDEX_VECTORS
from shared.models import Dataset, Document, DocumentSegment, FrequentWord, KeywordTotals, db
from tests.fixtures.application import Submit
from worker.services.dataset import keyword_ranking
from worker.services.dataset.found_passages import FoundPassage
from worker.services.dataset.indexing import index_document
from worker.services.dataset.keyword_statistics import coverage, measure_words
from worker.services.dataset.retrieval import search
from worker.services.dataset.search_options import SearchOptions
from worker.services.dataset.words import count_words
from worker.wiring import indexing_needs, retrieval_needs
from worker.wiring.maintenance import maintain

PLACES = ("north", "south", "east", "west")
THINGS = ("lamp", "horn", "boat", "rope", "tide", "stair")
NUMBERS = ("first", "second", "third")
QUESTIONS = ("keeper lamp", "north lamp", "second horn west", "keeper", "first keeper anchor tide")


@pytest.fixture
def ids(dataset_id: UUID, submit: Submit) -> dict[str, UUID]:
    """72 short documents; all are about the keeper, one has an anchor."""
    files = {
        f"{place}-{thing}-{number}.txt": (
            f"The keeper sees the {number} {thing} in the {place}. "
            + f"The {thing} is old. " * (number == "second")
        ).encode()
        for place, thing, number in product(PLACES, THINGS, NUMBERS)
    }
    files["north-tide-third.txt"] = b"The keeper drops an anchor at the third tide in the north."
    submissions = submit(files)
    for one in submissions:
        index_document(one.document_id, dataset_id, indexing_needs())
    return {one.name: one.document_id for one in submissions}


@pytest.fixture
def few_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the dataset were large: of most words, not all segments may be looked at."""
    monkeypatch.setattr(keyword_ranking, "_CANDIDATES", 8)


def measure(least: int = 10) -> list[UUID]:
    return list(measure_words(sessionmaker(db.engine), least))


def find(dataset_id: UUID, question: str, top_k: int = 5, **options: object) -> list[FoundPassage]:
    wishes = SearchOptions("keyword", top_k=top_k, **options)  # type: ignore[arg-type]
    return search(dataset_id, question, retrieval_needs(), wishes)


def test_the_same_is_found_with_the_same_scores(
    dataset_id: UUID, ids: dict[str, UUID], few_candidates: None
) -> None:
    before = [find(dataset_id, one) for one in QUESTIONS]

    assert measure() == [dataset_id]

    for question, exact in zip(QUESTIONS, before, strict=True):
        found = find(dataset_id, question)
        scores = [one.score for one in found]
        assert scores == pytest.approx([one.score for one in exact]), question
        assert found[0].document_id in {one.document_id for one in exact} or question == "keeper"


def test_few_of_a_frequent_words_segments_are_looked_at(
    dataset_id: UUID, ids: dict[str, UUID], few_candidates: None, session: Session
) -> None:
    measure()
    words = count_words("keeper anchor", dataset_id).numbers
    known = coverage(session, dataset_id, words)
    assert known.shares == {words[0]: 1.0}

    found = keyword_ranking.rank(session, dataset_id, words, 1, None, known)

    assert [one.score for one in found] == [
        pytest.approx(one.score) for one in find(dataset_id, "keeper anchor", 1)
    ]
    assert len(keyword_ranking.rank(session, dataset_id, words, 50, None, known)) == 50


def test_all_that_has_a_word_is_found_past_what_is_hidden(
    session: Session, dataset_id: UUID, ids: dict[str, UUID], few_candidates: None
) -> None:
    measure()
    best = find(dataset_id, "north lamp", 3)
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

    found = find(dataset_id, "north lamp keeper", 100)

    assert len(found) == len(ids) - 3
    hidden = {one.segment_id for one in best}
    assert not hidden & {one.segment_id for one in find(dataset_id, "north lamp", 5)}


@pytest.mark.parametrize("most", [0, 40_000])
def test_a_filter_is_part_of_the_query_and_changes_no_score(
    dataset_id: UUID, ids: dict[str, UUID], monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    only = [ids[f"west-lamp-{number}.txt"] for number in NUMBERS]
    exact = find(dataset_id, "north lamp keeper", 3, documents=only)
    measure()
    monkeypatch.setattr(keyword_ranking, "_MOST_CANDIDATES", max(most, 72))

    found = find(dataset_id, "north lamp keeper", 3, documents=only)

    assert {one.document_id for one in found} == set(only)
    assert [one.score for one in found] == pytest.approx([one.score for one in exact])


def test_where_too_many_would_have_to_be_looked_at_all_are(
    dataset_id: UUID,
    ids: dict[str, UUID],
    monkeypatch: pytest.MonkeyPatch,
    session: Session,
) -> None:
    """The first candidates are hidden: none of them may cost another passage its place."""
    measure()
    monkeypatch.setattr(keyword_ranking, "_MOST_CANDIDATES", 10)
    session.execute(update(Document).where(Document.position < 30).values(archived=True))
    session.commit()
    visible = session.scalar(select(func.count()).where(Document.archived.is_(False)))

    assert len(find(dataset_id, "keeper", 100)) == visible


def test_a_question_of_unknown_words_finds_nothing(
    dataset_id: UUID, ids: dict[str, UUID], few_candidates: None
) -> None:
    measure()

    assert find(dataset_id, "submarine periscope") == []


def test_words_are_measured_again_when_the_dataset_has_changed(
    session: Session, dataset_id: UUID, ids: dict[str, UUID], submit: Submit
) -> None:
    assert (measure(), measure()) == ([dataset_id], [])
    session.execute(
        update(KeywordTotals).values(measured_at=func.now() - func.make_interval(0, 0, 2))
    )
    session.commit()
    assert measure() == [dataset_id]

    for one in submit({f"{n}.txt": f"Pelican {n} flies.".encode() for n in range(20)}):
        index_document(one.document_id, dataset_id, indexing_needs())
    assert measure() == [dataset_id]

    (pelican,) = count_words("pelican", dataset_id).numbers
    share = session.scalar(select(FrequentWord.share).where(FrequentWord.word == pelican))
    assert share == pytest.approx(20 / 92)


def test_a_dataset_that_shrank_or_went_has_no_measure(
    session: Session, dataset_id: UUID, ids: dict[str, UUID]
) -> None:
    measure()
    exact = find(dataset_id, "keeper lamp")

    assert measure(least=1_000) == []
    assert rows(session) == (0, 0)
    assert find(dataset_id, "keeper lamp") == exact

    measure()
    assert rows(session) > (0, 0)
    session.execute(delete(Dataset))
    session.commit()
    assert rows(session) == (0, 0)


def test_the_schedule_measures(
    session: Session, dataset_id: UUID, ids: dict[str, UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    maintain(INDEX_VECTORS)
    assert rows(session) == (0, 0), "it is small"

    session.execute(update(Document).values(keyword_segments=1_000))
    session.commit()
    maintain(INDEX_VECTORS)

    assert rows(session) > (0, 0)


def rows(session: Session) -> tuple[int, ...]:
    session.rollback()
    counts = (select(func.count()).select_from(one) for one in (KeywordTotals, FrequentWord))
    return tuple(session.scalar(one) or 0 for one in counts)
