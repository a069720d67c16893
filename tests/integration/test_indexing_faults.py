"""What can go wrong with an indexing run, and what it leaves behind."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from shared.errors import (
    AttemptsExhausted,
    LeaseHeld,
    LeaseLost,
    LimitExceeded,
    Permanent,
    ServiceUnavailable,
    SubjectGone,
    UnexpectedFailure,
    UnreadableFile,
)
from shared.models import Dataset, Document, DocumentSegment, DocumentStatus, SegmentVector, db
from tests.fixtures.application import Reader, Submit
from tests.fixtures.pdf_files import numbered, pdf_of, without_last_page
from worker.providers.embedder import Embedder, Embeddings
from worker.services.dataset.claiming import claim_document
from worker.services.dataset.indexing import index_document
from worker.services.dataset.needs import IndexingNeeds
from worker.services.dataset.retrieval import search
from worker.services.dataset.search_options import SearchOptions
from worker.wiring import embedder, indexing_needs, retrieval_needs

OLD = b"The lighthouse lamp turns once in twelve seconds. " * 200
NEW = b"The fog horn sounds twice a minute in thick weather. " * 200


class ObservedEmbedder:
    """The real embedder; calls back before each batch and keeps what it was given."""

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        self._real: Embedder = embedder("wordllama", "l2_supercat_256")
        self.model, self.dimension = self._real.model, self._real.dimension
        self.is_costly = self._real.is_costly
        self.before = before
        self.texts: list[str] = []

    def embed(self, texts: Sequence[str]) -> Embeddings:
        self.before()
        self.texts += texts
        return self._real.embed(texts)

    def count_tokens(self, text: str) -> int:
        return self._real.count_tokens(text)


def needs_with(observed: ObservedEmbedder, **values: object) -> IndexingNeeds:
    return replace(indexing_needs(), embedders=lambda *_: observed, **values)


def rows(session: Session, document_id: UUID) -> tuple[list[tuple[int, int]], int]:
    """Version and position of each segment, and the number of vectors."""
    session.rollback()
    segments = session.execute(
        select(DocumentSegment.version, DocumentSegment.position)
        .where(DocumentSegment.document_id == document_id)
        .order_by(DocumentSegment.version, DocumentSegment.position)
    )
    vectors = session.scalar(select(func.count()).where(SegmentVector.document_id == document_id))
    return [tuple(row) for row in segments], vectors or 0


@pytest.fixture
def document_id(dataset_id: UUID, submit: Submit) -> UUID:
    """A document that waits in its first version."""
    (submission,) = submit({"lamp.txt": OLD})
    return submission.document_id


def test_a_second_delivery_does_nothing(
    session: Session, dataset_id: UUID, document_id: UUID
) -> None:
    observed = ObservedEmbedder()
    index_document(document_id, dataset_id, needs_with(observed))
    before = rows(session, document_id)
    observed.texts.clear()

    again = index_document(document_id, dataset_id, needs_with(observed))

    assert (again.segments, observed.texts) == (0, [])
    assert rows(session, document_id) == before


def test_a_document_that_another_worker_has_is_left_to_it(
    session: Session, dataset_id: UUID, document_id: UUID
) -> None:
    claim_document(session, document_id, dataset_id, lease_seconds=60)
    session.commit()

    with pytest.raises(LeaseHeld, match=f"/{os.getpid()}"):
        index_document(document_id, dataset_id, indexing_needs())

    assert rows(session, document_id) == ([], 0)


def test_what_a_dead_worker_left_is_replaced_not_added_to(
    session: Session, dataset_id: UUID, document_id: UUID, reader: Reader
) -> None:
    class Death(BaseException):
        """A process that ends here runs nothing more."""

    batches = iter(range(100))

    def die_in_the_third_batch() -> None:
        if next(batches) == 2:
            raise Death

    with pytest.raises(Death):
        index_document(
            document_id,
            dataset_id,
            needs_with(ObservedEmbedder(die_in_the_third_batch), batch_segments=2),
        )
    assert len(rows(session, document_id)[0]) == 4
    # As a release that splits otherwise would have written them.
    session.execute(update(DocumentSegment).values(position=DocumentSegment.position + 1000))
    session.execute(
        update(Document).values(lease_expires_at=func.now() - func.make_interval(0, 0, 0, 0, 1))
    )
    session.commit()

    report = index_document(document_id, dataset_id, indexing_needs())

    document = reader.document(document_id)
    assert document.indexing_status == DocumentStatus.COMPLETED
    assert rows(session, document_id) == (
        [(1, position) for position in range(report.segments)],
        report.segments,
    )


def test_a_worker_that_lost_its_lease_writes_nothing_more(
    session: Session, dataset_id: UUID, document_id: UUID, submit: Submit
) -> None:
    def a_newer_version_arrives() -> None:
        indexing_needs().guard.release(document_id, 1)
        submit({"lamp.txt": NEW})

    with pytest.raises(LeaseLost):
        index_document(
            document_id, dataset_id, needs_with(ObservedEmbedder(a_newer_version_arrives))
        )

    assert rows(session, document_id) == ([], 0)
    index_document(document_id, dataset_id, indexing_needs())
    assert {version for version, _ in rows(session, document_id)[0]} == {2}


def test_deletion_wins_over_running_work(
    session: Session, dataset_id: UUID, document_id: UUID
) -> None:
    def it_is_deleted() -> None:
        session.execute(delete(Document).where(Document.id == document_id))
        session.commit()

    with pytest.raises(LeaseLost):
        index_document(document_id, dataset_id, needs_with(ObservedEmbedder(it_is_deleted)))

    assert rows(session, document_id) == ([], 0)


def test_a_deleted_document_and_one_of_another_dataset_are_no_work(
    dataset_id: UUID, document_id: UUID
) -> None:
    with pytest.raises(SubjectGone):
        index_document(uuid4(), dataset_id, indexing_needs())
    with pytest.raises(SubjectGone):
        index_document(document_id, uuid4(), indexing_needs())
    assert index_document(document_id, dataset_id, indexing_needs()).segments > 0


def test_a_failed_reindex_leaves_the_old_version_serving(
    session: Session, dataset_id: UUID, document_id: UUID, submit: Submit, reader: Reader
) -> None:
    index_document(document_id, dataset_id, indexing_needs())
    before = rows(session, document_id)
    submit({"lamp.txt": NEW})

    with pytest.raises(LimitExceeded):
        index_document(
            document_id,
            dataset_id,
            needs_with(ObservedEmbedder(), batch_segments=2, max_segments=3),
        )

    document = reader.document(document_id)
    assert document.indexing_status == DocumentStatus.ERROR
    assert "INDEXING_MAX_SEGMENTS" in (document.error or "")
    assert (document.active_version, document.index_version) == (1, 2)
    assert rows(session, document_id) == before
    assert document.total_segments == document.completed_segments == len(before[0])
    found = search(dataset_id, "how often does the lamp turn?", retrieval_needs())
    assert "twelve seconds" in found[0].content


def test_a_file_that_ends_unreadable_leaves_nothing_of_what_was_read(
    session: Session, dataset_id: UUID, submit: Submit, reader: Reader
) -> None:
    (submission,) = submit({"long.pdf": without_last_page(pdf_of(numbered(30, lines=40)))})
    observed = ObservedEmbedder()

    with pytest.raises(UnreadableFile):
        index_document(submission.document_id, dataset_id, needs_with(observed, batch_segments=4))

    assert len(observed.texts) > 20
    assert rows(session, submission.document_id) == ([], 0)
    document = reader.document(submission.document_id)
    assert document.indexing_status == DocumentStatus.ERROR
    assert "long.pdf is damaged" in (document.error or "")


def test_search_sees_one_whole_version_at_any_moment(
    dataset_id: UUID, document_id: UUID, submit: Submit
) -> None:
    index_document(document_id, dataset_id, indexing_needs())
    submit({"lamp.txt": NEW})
    seen: list[set[str]] = []

    def look() -> None:
        found = search(dataset_id, "lamp or horn", retrieval_needs(), SearchOptions(top_k=50))
        seen.append({one.content.split()[1] for one in found})

    index_document(document_id, dataset_id, needs_with(ObservedEmbedder(look), batch_segments=2))
    look()

    assert len(seen) > 3
    assert all("fog" not in words for words in seen[:-1])
    assert "lighthouse" not in seen[-1]


def test_unchanged_passages_keep_their_vectors(
    dataset_id: UUID, submit: Submit, reader: Reader
) -> None:
    chapters = [f"Chapter {number}. " + "A sentence of it. " * 60 for number in range(40)]
    (submission,) = submit({"book.txt": "\n\n".join(chapters).encode()})
    first = ObservedEmbedder()
    index_document(submission.document_id, dataset_id, needs_with(first))
    chapters[-1] += "And one more."
    submit({"book.txt": "\n\n".join(chapters).encode()})
    second = ObservedEmbedder()

    index_document(submission.document_id, dataset_id, needs_with(second))

    assert reader.document(submission.document_id).active_version == 2
    assert len(second.texts) <= 2 < len(first.texts)


def test_a_lost_service_hands_the_document_back_and_the_last_attempt_ends_it(
    dataset_id: UUID, document_id: UUID, reader: Reader
) -> None:
    def unavailable() -> None:
        raise ServiceUnavailable("the embedding provider answers 503")

    broken = needs_with(ObservedEmbedder(unavailable), max_attempts=2)
    for attempt in (1, 2):
        with pytest.raises(ServiceUnavailable):
            index_document(document_id, dataset_id, broken)
        document = reader.document(document_id)
        assert document.indexing_status == DocumentStatus.WAITING
        assert document.lease_expires_at is None
        assert f"attempt {attempt} failed" in (document.error or "")

    with pytest.raises(AttemptsExhausted):
        index_document(document_id, dataset_id, broken)

    document = reader.document(document_id)
    assert document.indexing_status == DocumentStatus.ERROR
    assert "answers 503" in (document.error or "")


def test_a_defect_ends_the_document_with_its_name(
    dataset_id: UUID, document_id: UUID, reader: Reader
) -> None:
    def defect() -> None:
        raise ZeroDivisionError("division by zero\0")

    with pytest.raises(UnexpectedFailure, match="ZeroDivisionError"):
        index_document(document_id, dataset_id, needs_with(ObservedEmbedder(defect)))

    document = reader.document(document_id)
    assert document.indexing_status == DocumentStatus.ERROR
    assert document.error == "unexpected ZeroDivisionError: division by zero"


def test_an_embedder_of_another_dimension_is_refused(
    session: Session, dataset_id: UUID, document_id: UUID, reader: Reader
) -> None:
    session.execute(update(Dataset).values(embedding_dimension=384))
    session.commit()

    with pytest.raises(Permanent, match="256 dimensions, the dataset holds 384"):
        index_document(document_id, dataset_id, indexing_needs())

    assert "384" in (reader.document(document_id).error or "")


def test_a_paused_document_is_left_alone(
    session: Session, dataset_id: UUID, document_id: UUID, reader: Reader
) -> None:
    session.execute(update(Document).values(is_paused=True, indexing_status=DocumentStatus.PAUSED))
    session.commit()

    assert index_document(document_id, dataset_id, indexing_needs()).segments == 0
    assert reader.document(document_id).indexing_status == DocumentStatus.PAUSED


def test_the_guard_is_gone_after_every_end(
    dataset_id: UUID, document_id: UUID, submit: Submit
) -> None:
    from flask import current_app

    redis = current_app.extensions["redis"]
    key = f"document_{document_id}_indexing"
    submit({"lamp.txt": OLD}, announce=True)
    assert redis.get(key) == "1"

    index_document(document_id, dataset_id, indexing_needs())

    assert redis.get(key) is None
    assert db.engine.pool.checkedout() == 0
