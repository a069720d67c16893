"""The keyword index: its rows through a document's life, and datasets that have nothing else."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import UUID

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from shared.errors import EmptyFile, InvalidRequest, LeaseLost, ServiceUnavailable
from shared.models import Dataset, Document, DocumentStatus, SegmentKeywords, SegmentVector
from shared.submitting.control import pause_documents
from shared.submitting.dataset import ensure_dataset
from tests.fixtures.application import Reader, Submit
from worker.providers.embedder import Embedder, Embeddings
from worker.services.dataset.giving_up import give_up_documents
from worker.services.dataset.indexing import index_document
from worker.services.dataset.needs import IndexingNeeds
from worker.services.dataset.retrieval import search
from worker.services.dataset.search_options import SearchOptions
from worker.wiring import embedder, indexing_needs, retrieval_needs

LAMP = b"The lighthouse lamp turns once in twelve seconds. " * 200
HORN = b"The fog horn sounds twice a minute in thick weather. " * 200


class Spoiled:
    """The real embedder until its ``batches`` are used up; then the ``error``."""

    def __init__(self, batches: int, error: BaseException) -> None:
        self._real: Embedder = embedder("wordllama", "l2_supercat_256")
        self.model, self.dimension = self._real.model, self._real.dimension
        self.is_costly = self._real.is_costly
        self._batches, self._error = batches, error

    def embed(self, texts: list[str]) -> Embeddings:
        if self._batches == 0:
            raise self._error
        self._batches -= 1
        return self._real.embed(texts)

    def count_tokens(self, text: str) -> int:
        return self._real.count_tokens(text)


def spoiled_needs(batches: int, error: BaseException) -> IndexingNeeds:
    embedders = Spoiled(batches, error)
    return replace(indexing_needs(), embedders=lambda *_: embedders, batch_segments=2)


def no_embedder(*_: str) -> Embedder:
    raise AssertionError("an economy dataset embeds nothing")


def versions(session: Session, document_id: UUID) -> dict[int, int]:
    """Rows of keywords by version."""
    session.rollback()
    rows = session.execute(
        select(SegmentKeywords.version, func.count())
        .where(SegmentKeywords.document_id == document_id)
        .group_by(SegmentKeywords.version)
    )
    return {row[0]: row[1] for row in rows}


@pytest.fixture
def document_id(dataset_id: UUID, submit: Submit) -> UUID:
    """A document that waits in its first version."""
    (submission,) = submit({"lamp.txt": LAMP})
    return submission.document_id


@pytest.fixture
def economy(session: Session, dataset_id: UUID) -> UUID:
    """The dataset, without vectors."""
    session.execute(update(Dataset).values(indexing_technique="economy"))
    session.commit()
    return dataset_id


def test_every_segment_has_its_words_and_the_document_counts_them(
    session: Session, dataset_id: UUID, document_id: UUID, reader: Reader
) -> None:
    totals = index_document(document_id, dataset_id, indexing_needs())

    document = reader.document(document_id)
    words = session.scalar(select(func.sum(SegmentKeywords.length)))
    assert versions(session, document_id) == {1: totals.segments}
    assert (document.keyword_segments, document.keyword_words) == (totals.segments, words)


def test_a_second_delivery_changes_no_row(
    session: Session, dataset_id: UUID, document_id: UUID
) -> None:
    index_document(document_id, dataset_id, indexing_needs())
    before = session.scalars(select(SegmentKeywords.segment_id)).all()

    index_document(document_id, dataset_id, indexing_needs())

    session.rollback()
    assert sorted(session.scalars(select(SegmentKeywords.segment_id))) == sorted(before)


def test_a_new_version_replaces_the_words_of_the_old(
    session: Session, dataset_id: UUID, document_id: UUID, submit: Submit
) -> None:
    index_document(document_id, dataset_id, indexing_needs())
    submit({"lamp.txt": HORN})
    totals = index_document(document_id, dataset_id, indexing_needs())

    assert versions(session, document_id) == {2: totals.segments}


@pytest.mark.parametrize(
    ("error", "left"), [(ServiceUnavailable(), {1, 2}), (ValueError("a defect"), {1})]
)
def test_a_run_that_fails_half_way_leaves_the_old_words_alone(
    session: Session,
    dataset_id: UUID,
    document_id: UUID,
    submit: Submit,
    reader: Reader,
    error: Exception,
    left: set[int],
) -> None:
    index_document(document_id, dataset_id, indexing_needs())
    before = reader.document(document_id).keyword_words
    submit({"lamp.txt": HORN})

    with pytest.raises(Exception, match=r".+"):
        index_document(document_id, dataset_id, spoiled_needs(2, error))

    # What is written of the new version is not found yet.
    assert set(versions(session, document_id)) == left
    options = SearchOptions("keyword")
    assert search(dataset_id, "fog horn", retrieval_needs(), options) == []
    assert len(search(dataset_id, "lighthouse", retrieval_needs(), options)) == 5
    assert reader.document(document_id).keyword_words == before
    give_up_documents(dataset_id, [document_id], indexing_needs(), "no more")
    assert set(versions(session, document_id)) == {1}


def test_a_run_that_lost_its_lease_writes_no_words(
    session: Session, dataset_id: UUID, document_id: UUID
) -> None:
    class TakenOver(Spoiled):
        def embed(self, texts: list[str]) -> Embeddings:
            session.execute(update(Document).values(lease_token=Document.lease_token + 1))
            session.commit()
            return self._real.embed(texts)

    observed = TakenOver(1, ValueError())
    with pytest.raises(LeaseLost):
        index_document(
            document_id, dataset_id, replace(indexing_needs(), embedders=lambda *_: observed)
        )

    assert versions(session, document_id) == {}


def test_pausing_takes_the_words_of_the_unfinished_version(
    session: Session, dataset_id: UUID, document_id: UUID
) -> None:
    with pytest.raises(ServiceUnavailable):
        index_document(document_id, dataset_id, spoiled_needs(2, ServiceUnavailable()))
    assert versions(session, document_id) == {1: 4}

    pause_documents(session, [document_id])
    session.commit()

    assert versions(session, document_id) == {}


def test_keywords_can_be_switched_off(
    session: Session, dataset_id: UUID, document_id: UUID, reader: Reader
) -> None:
    index_document(document_id, dataset_id, replace(indexing_needs(), keywords=False))

    assert versions(session, document_id) == {}
    assert reader.document(document_id).keyword_segments is None


def test_an_economy_dataset_has_words_and_nothing_is_embedded(
    session: Session, economy: UUID, document_id: UUID, reader: Reader
) -> None:
    needs = replace(indexing_needs(), embedders=no_embedder, keywords=False)
    totals = index_document(document_id, economy, needs)

    document = reader.document(document_id)
    dataset = session.get_one(Dataset, economy, populate_existing=True)
    assert document.indexing_status == DocumentStatus.COMPLETED
    assert versions(session, document_id) == {1: totals.segments}
    assert totals.segments > 1
    assert session.scalar(select(func.count()).select_from(SegmentVector)) == 0
    assert dataset.embedding_dimension is None
    found = search(economy, "lamp", replace(retrieval_needs(), embedders=no_embedder))
    assert len(found) == 5
    assert all("lighthouse" in one.content for one in found)


def test_an_economy_document_without_a_word_is_not_completed(
    session: Session, economy: UUID, submit: Submit, reader: Reader
) -> None:
    (submission,) = submit({"lines.txt": b"----- ***** -----\n" * 500})

    with pytest.raises(EmptyFile, match="no word"):
        index_document(submission.document_id, economy, indexing_needs())

    document = reader.document(submission.document_id)
    assert document.indexing_status == DocumentStatus.ERROR
    assert "lines.txt holds no word" in (document.error or "")
    assert (document.active_version, document.total_segments) == (None, 0)


def test_writers_at_the_same_time_lose_no_word(
    session: Session, dataset_id: UUID, submit: Submit
) -> None:
    """All of them write the same words; a table of the dataset would be overwritten."""
    submissions = submit({f"{number}.txt": LAMP for number in range(8)})
    needs = replace(indexing_needs(), batch_segments=2)
    with ThreadPoolExecutor(4) as threads:
        totals = list(
            threads.map(lambda one: index_document(one.document_id, dataset_id, needs), submissions)
        )

    for one, total in zip(submissions, totals, strict=True):
        assert versions(session, one.document_id) == {1: total.segments}
    found = search(dataset_id, "lamp", retrieval_needs(), SearchOptions("keyword", top_k=100))
    assert len(found) == sum(one.segments for one in totals)


def test_a_dataset_keeps_its_technique(session: Session, dataset_id: UUID) -> None:
    tenant_id = session.get_one(Dataset, dataset_id).tenant_id
    made = ensure_dataset(session, tenant_id, "leaflets", technique="economy")

    assert session.get_one(Dataset, made).indexing_technique == "economy"
    assert ensure_dataset(session, tenant_id, "leaflets") == made
    with pytest.raises(InvalidRequest, match="indexed as economy, not as high_quality"):
        ensure_dataset(session, tenant_id, "leaflets", technique="high_quality")
    with pytest.raises(InvalidRequest, match="only: high_quality, economy"):
        ensure_dataset(session, tenant_id, "others", technique="cheap")
