"""Producer calls about documents that are there: refused, or done, at once."""

import io
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from flask import Flask
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from shared.errors import DocumentIndexingInProgress, InvalidRequest, NotFound, SubjectGone
from shared.models import Dataset, Document, OutboxMessage, Removal, db
from shared.queueing import guard
from shared.submitting import availability, control, reindexing, removing
from shared.submitting.files import StoredFile, store_file
from tests.fixtures.application import Submit
from tests.fixtures.removals import LAMPS, Make, counts
from worker.services.dataset.indexing import index_document
from worker.services.dataset.retrieval import search
from worker.services.dataset.search_options import SearchMethod, SearchOptions
from worker.tasks import dataset as tasks
from worker.wiring import indexing_needs, retrieval_needs

Change = Callable[..., list[UUID]]

AVAILABILITY = (
    availability.enable_documents,
    availability.disable_documents,
    availability.archive_documents,
    availability.unarchive_documents,
)
AGAIN = (reindexing.retry_documents, reindexing.duplicate_documents)


def update_document(session: Session, ids: Sequence[UUID], **options: object) -> list[UUID]:
    rule = {"mode": "automatic"}
    return [reindexing.update_document(session, one, rule=rule, **options) for one in ids]


ALL = (*AVAILABILITY, *AGAIN, update_document, removing.delete_documents)


def change(do: Change, *ids: UUID, **options: object) -> list[UUID]:
    with Session(db.engine) as session, session.begin():
        return do(session, list(ids), **options)


def messages(task: str = "") -> list[OutboxMessage]:
    """What was written beside the first submissions."""
    query = select(OutboxMessage).where(OutboxMessage.task.not_like("%.document_indexing_task"))
    with Session(db.engine) as session:
        found = session.scalars(query.order_by(OutboxMessage.sequence)).all()
    return [one for one in found if one.task.endswith(task)]


def found(dataset_id: UUID, method: SearchMethod = SearchMethod.VECTOR) -> set[UUID]:
    options = SearchOptions(method=method, top_k=50)
    results = search(dataset_id, "the lighthouse lamp", retrieval_needs(), options)
    return {one.document_id for one in results}


@pytest.fixture
def redis(app: Flask) -> object:
    return app.extensions["redis"]


@pytest.mark.parametrize("do", ALL)
def test_one_that_is_not_there_is_refused_and_changes_nothing(do: Change, make: Make) -> None:
    document, missing = make(), uuid4()

    with pytest.raises(NotFound, match=str(missing)):
        change(do, document, missing)

    assert counts(document) == (1, LAMPS, LAMPS)
    assert messages() == []


@pytest.mark.parametrize("do", [*AVAILABILITY, *AGAIN, update_document])
def test_one_that_is_being_indexed_is_refused(
    do: Change, make: Make, redis: object, session: Session
) -> None:
    document = make()
    assert guard.acquire(redis, [(document, 99)], 60)  # type: ignore[arg-type]
    if do is reindexing.retry_documents:
        session.execute(update(Document).values(indexing_status="error"))
        session.commit()

    with pytest.raises(DocumentIndexingInProgress, match="wait for it"):
        change(do, document, redis=redis)
    assert messages() == []
    if do in AVAILABILITY:
        return
    # Also when Redis has forgotten it, by the row.
    session.execute(update(Document).values(indexing_status="parsing"))
    session.commit()
    with pytest.raises(DocumentIndexingInProgress, match="wait for it"):
        change(do, document)
    assert messages() == []


@pytest.mark.parametrize(
    ("do", "status", "reason"),
    [
        (reindexing.retry_documents, "completed", "nothing to retry"),
        (reindexing.retry_documents, "paused", "resume or cancel"),
        (reindexing.duplicate_documents, "paused", "resume or cancel"),
        (update_document, "paused", "resume or cancel"),
    ],
)
def test_what_cannot_be_done_says_what_can(
    do: Change, status: str, reason: str, make: Make, session: Session
) -> None:
    document = make()
    session.execute(update(Document).values(indexing_status=status))
    session.commit()

    with pytest.raises(InvalidRequest, match=reason):
        change(do, document)
    with pytest.raises(InvalidRequest, match="duplicate"):
        reindexing.update_document(session, document)
    assert messages() == []


@pytest.mark.parametrize("method", list(SearchMethod))
def test_disabled_and_archived_ones_are_not_found_from_the_commit_on(
    method: SearchMethod, dataset_id: UUID, make: Make
) -> None:
    one, other = make("one.txt"), make("two.txt")
    assert found(dataset_id, method) == {one, other}

    assert change(availability.disable_documents, one) == [one]
    assert change(availability.disable_documents, one) == []
    assert found(dataset_id, method) == {other}
    assert change(availability.enable_documents, one, other) == [one]
    assert found(dataset_id, method) == {one, other}

    assert change(availability.archive_documents, one) == [one]
    assert found(dataset_id, method) == {other}
    for do in (availability.enable_documents, availability.disable_documents):
        with pytest.raises(InvalidRequest, match="unarchive it first"):
            change(do, one)
    assert change(availability.unarchive_documents, one) == [one]
    assert found(dataset_id, method) == {one, other}

    assert [message.task.rpartition(".")[2] for message in messages()] == [
        "remove_document_from_index_task",
        "add_document_to_index_task",
    ] * 2
    assert {tuple(message.args) for message in messages()} == {(str(one),)}


@pytest.mark.parametrize("task", ["add_document_to_index_task", "remove_document_from_index_task"])
def test_a_message_about_a_flag_follows_the_row_however_late_it_comes(
    task: str, session: Session, dataset_id: UUID, make: Make
) -> None:
    document = make()
    for enabled in (False, True):
        session.execute(update(Document).values(enabled=enabled))  # as one does without our calls
        session.commit()
        for _ in range(2):
            getattr(tasks, task)(str(document))
            session.rollback()
            row = session.get_one(Document, document, populate_existing=True)
            assert (row.enabled, row.disabled_at is None) == (enabled, enabled)
            assert counts(document) == (1, LAMPS, LAMPS)
            assert found(dataset_id) == ({document} if enabled else set())
    change(removing.delete_documents, document)
    with pytest.raises(SubjectGone):
        getattr(tasks, task)(str(document))


def test_deletions_free_the_guard_and_name_their_message(
    session: Session, dataset_id: UUID, make: Make, submit: Submit, redis: object
) -> None:
    one, two = make("one.txt"), make("two.txt")
    (waits,) = (each.document_id for each in submit({"waits.txt": b"A heron."}))
    assert guard.held(redis, waits)  # type: ignore[arg-type]

    assert change(removing.delete_documents, waits, redis=redis) == [waits]
    assert sorted(change(removing.delete_documents, one, two)) == sorted([one, two])

    assert not guard.held(redis, waits)  # type: ignore[arg-type]
    single, several = messages()
    assert (single.task.rpartition(".")[2], single.args) == (
        "clean_document_task",
        [str(waits), str(dataset_id)],
    )
    assert several.task.endswith(".batch_clean_document_task")
    assert sorted(several.args[0]) == sorted(map(str, (one, two)))
    noted = session.execute(select(Removal.document_id, Removal.message_id))
    assert dict(map(tuple, noted)) == {waits: single.id, one: several.id, two: several.id}


def test_a_deletion_rolled_back_has_not_happened(make: Make, dataset_id: UUID) -> None:
    document = make()
    with Session(db.engine) as session:
        removing.delete_documents(session, [document])
        removing.delete_dataset(session, dataset_id)
        session.rollback()

    assert counts(document) == (1, LAMPS, LAMPS)
    assert messages() == []
    assert found(dataset_id) == {document}


def test_a_dataset_goes_with_one_message(session: Session, dataset_id: UUID, make: Make) -> None:
    documents = [make("one.txt"), make("two.txt", b"A heron.")]
    message_id = removing.delete_dataset(session, dataset_id)
    session.commit()

    (message,) = messages()
    assert (message.id, message.args) == (message_id, [str(dataset_id)])
    assert set(session.scalars(select(Removal.message_id))) == {message_id}
    tasks.clean_dataset_task(*message.args)
    for one in documents:
        assert counts(one) == (0, 0, 0)
    assert session.scalar(select(func.count()).select_from(Dataset)) == 0
    with pytest.raises(NotFound, match=str(dataset_id)):
        removing.delete_dataset(session, dataset_id)


def test_a_new_rule_makes_other_segments_of_the_same_file(
    session: Session, dataset_id: UUID, make: Make
) -> None:
    document = make()
    rule = {
        "mode": "custom",
        "rules": {
            "pre_processing_rules": [],
            "segmentation": {"separator": "\n", "max_tokens": 60, "chunk_overlap": 0},
        },
    }
    reindexing.update_document(session, document, rule=rule)
    session.commit()
    (message,) = messages()
    assert message.task.endswith(".document_indexing_update_task")
    assert counts(document) == (1, LAMPS, LAMPS)

    tasks.document_indexing_update_task(*message.args)

    _, segments, vectors = counts(document)
    assert segments == vectors > LAMPS * 3


def test_indexed_fifty_times_under_continuous_search(
    app: Flask, session: Session, dataset_id: UUID, make: Make
) -> None:
    """No search misses the document, none sees two of its versions."""
    document = make("lamp.txt", b"Version 1000 tells of the lighthouse lamp. " * 40)
    stop, failures, looks, seen = threading.Event(), list[str](), [0], set[str]()

    def look() -> None:
        try:
            with app.app_context():
                while not stop.is_set():
                    results = search(dataset_id, "the lighthouse lamp", retrieval_needs())
                    versions = {one.content.split()[1] for one in results}
                    if len(versions) != 1:
                        failures.append(f"{len(results)} passages of {sorted(versions)}")
                    seen.update(versions)
                    looks[0] += 1
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            failures.append(repr(error))

    def stored(number: int) -> StoredFile:
        tenant_id = session.get_one(Dataset, dataset_id).tenant_id
        content = io.BytesIO(b"Version %d tells of the lighthouse lamp. " % number * 40)
        return store_file(app.extensions["storage"], tenant_id, "lamp.txt", content)

    searcher = threading.Thread(target=look)
    searcher.start()
    try:
        for number in range(1001, 1051):
            reindexing.update_document(session, document, file=stored(number))
            session.commit()
            # In several transactions: what is half made must not be seen.
            index_document(document, dataset_id, replace(indexing_needs(), batch_segments=1))
    finally:
        stop.set()
        searcher.join(300)

    assert failures == []
    assert looks[0] >= 50
    assert len(seen) > 10
    row = session.get_one(Document, document, populate_existing=True)
    assert (row.index_version, row.active_version) == (51, 51)
    assert counts(document)[1:] == (row.total_segments, row.total_segments)
    assert set(session.scalars(text("SELECT DISTINCT version FROM document_segments"))) == {51}


def test_pausing_the_newest_version_and_deleting_it_race_for_nothing(
    dataset_id: UUID, make: Make, submit: Submit
) -> None:
    document = make()
    submit({"lamp.txt": b"Something new."})
    change(control.pause_documents, document)
    change(removing.delete_documents, document)
    with pytest.raises(SubjectGone):
        tasks.recover_document_indexing_task(str(dataset_id), str(document))
    with pytest.raises(NotFound):
        change(control.resume_documents, document)


def test_a_url_that_was_never_fetched_is_fetched_before_it_is_indexed(
    session: Session, submit: Submit
) -> None:
    (one,) = submit({"page": b""})
    session.execute(
        update(Document).values(data_source="url", upload_file_id=None, indexing_status="error")
    )
    session.commit()

    change(reindexing.retry_documents, one.document_id)

    (message,) = messages()
    assert message.task.endswith(".document_indexing_sync_task")
    assert message.args[1] == str(one.document_id)
