"""Documents are paused, resumed and cancelled under the hands of a running worker."""

from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
from flask import Flask
from redis import Redis
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shared.errors import NotFound
from shared.models import Document, DocumentSegment, DocumentStatus, SegmentVector, db
from shared.submitting import control
from shared.submitting.dataset import Outcome
from tests.fixtures.application import Reader, Submit
from tests.fixtures.messages import Messages
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker
from worker.services.dataset.indexing import index_document
from worker.services.dataset.retrieval import search
from worker.wiring import indexing_needs, retrieval_needs

OLD = b"The lighthouse lamp turns once in twelve seconds. " * 40
#: Hundreds of segments, one a transaction: it is caught in the middle.
LARGE = b"".join(b"Sentence %d tells of the fog horn in thick weather. " % n for n in range(3_000))

Change = Callable[..., list[UUID]]


def rows(document_id: UUID) -> tuple[int, int, set[int]]:
    """Segments, vectors and the versions they are of."""
    with Session(db.engine) as session:
        query = select(DocumentSegment.version).where(DocumentSegment.document_id == document_id)
        versions = session.scalars(query).all()
        vectors = session.scalar(
            select(func.count()).where(SegmentVector.document_id == document_id)
        )
    return len(versions), vectors or 0, set(versions)


def change(do: Change, *ids: UUID, **options: object) -> list[UUID]:
    with Session(db.engine) as session, session.begin():
        return do(session, ids, **options)


@pytest.fixture
def guards(app: Flask) -> Redis:
    redis: Redis = app.extensions["redis"]
    return redis


def test_a_worker_in_the_middle_of_a_document_lets_go_of_it(
    dataset_id: UUID,
    submit: Submit,
    reader: Reader,
    messages: Messages,
    guards: Redis,
    start_worker: StartWorker,
) -> None:
    (lamp,) = (one.document_id for one in submit({"lamp.txt": OLD}))
    index_document(lamp, dataset_id, indexing_needs())
    before = rows(lamp)
    start_worker("threads", 2, INDEXING_BATCH_SEGMENTS="1")

    def in_the_middle() -> bool:
        document = reader.document(lamp)
        return document.indexing_status == "indexing" and document.completed_segments > 0

    submit({"lamp.txt": LARGE}, announce=True)
    eventually(in_the_middle)
    # What it wrote by then goes, and it writes no more: its message ends within a batch.
    assert change(control.cancel_documents, lamp, redis=guards) == [lamp]
    assert rows(lamp) == before
    messages.await_gone(*(one.id for one in messages.rows()))
    messages.await_quiet_broker()
    document = reader.document(lamp)
    assert "cancelled" in (document.error or "")
    assert (document.indexing_status, document.active_version) == ("error", 1)
    assert document.completed_segments == before[0]
    assert rows(lamp) == before
    found = search(dataset_id, "how often does the lamp turn?", retrieval_needs())
    assert "twelve seconds" in found[0].content

    # The guard is free: it may be submitted again at once.
    (again,) = submit({"lamp.txt": LARGE + b"The end."}, announce=True)
    assert again.outcome is Outcome.CHANGED
    eventually(in_the_middle)
    assert change(control.pause_documents, lamp, redis=guards) == [lamp]
    messages.await_gone(*(one.id for one in messages.rows()))
    document = reader.document(lamp)
    assert (document.indexing_status, document.error) == (DocumentStatus.PAUSED, None)
    assert rows(lamp) == before
    assert not guards.exists(f"document_{lamp}_indexing")

    (other,) = submit({"other.txt": b"The gull follows the boat."}, announce=True)
    reader.await_end(other.document_id)
    assert reader.document(lamp).indexing_status == DocumentStatus.PAUSED
    assert change(control.resume_documents, lamp, redis=guards) == [lamp]
    (document,) = reader.await_end(lamp)
    assert (document.indexing_status, document.active_version) == ("completed", 3)
    segments = document.total_segments
    assert segments == document.completed_segments > 50
    assert rows(lamp) == (segments, segments, {3})
    eventually(lambda: not guards.exists(f"document_{lamp}_indexing"))
    assert messages.letters() == []


def test_what_waits_or_is_paused_or_is_finished(
    dataset_id: UUID, submit: Submit, reader: Reader, messages: Messages, guards: Redis
) -> None:
    files = dict.fromkeys(("done", "waits", "paused"), b"A heron stands in the reeds.")
    done, waits, paused = (one.document_id for one in submit(files))
    index_document(done, dataset_id, indexing_needs())
    finished = rows(done)

    assert change(control.pause_documents, paused, done, redis=guards) == [paused]
    assert change(control.pause_documents, paused) == []
    assert change(control.resume_documents, waits, done) == []
    # The message of its submission finds nothing to do.
    assert index_document(paused, dataset_id, indexing_needs()).segments == 0
    cancelled = change(control.cancel_documents, done, waits, paused, redis=guards)

    assert sorted(cancelled) == sorted([waits, paused])
    for one in cancelled:
        document = reader.document(one)
        assert (document.indexing_status, document.is_paused) == (DocumentStatus.ERROR, False)
        assert "cancelled" in (document.error or "")
        assert index_document(one, dataset_id, indexing_needs()).segments == 0
    assert reader.document(done).indexing_status == DocumentStatus.COMPLETED
    assert rows(done) == finished
    assert change(control.cancel_documents, waits, paused, done) == []
    assert not list(guards.scan_iter("document_*_indexing"))

    # Submitted again, it is indexed.
    (again, *_) = submit({"waits": files["waits"]})
    assert again.outcome is Outcome.AGAIN
    assert index_document(waits, dataset_id, indexing_needs()).segments > 0


def test_a_document_that_is_not_there_changes_nothing(
    session: Session, submit: Submit, reader: Reader
) -> None:
    (waits,) = (one.document_id for one in submit({"a.txt": b"A heron."}))
    missing = uuid4()

    for do in (control.pause_documents, control.resume_documents, control.cancel_documents):
        with pytest.raises(NotFound, match=str(missing)):
            change(do, waits, missing)

    assert reader.document(waits).indexing_status == DocumentStatus.WAITING
    assert session.scalar(select(func.count()).select_from(Document)) == 1
