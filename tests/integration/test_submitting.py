"""Submissions: the row first, then the message; the same again does nothing."""

import hashlib
import random
import threading
from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
from flask import Flask
from redis import Redis
from sqlalchemy import delete, event, func, select, update
from sqlalchemy.orm import Session

from shared.errors import NotFound
from shared.models import Dataset, Document, DocumentStatus, OutboxMessage, UploadFile, db
from shared.queueing import guard
from shared.submitting.control import pause_documents
from shared.submitting.dataset import (
    Outcome,
    Submission,
    ensure_dataset,
    ensure_tenant,
    submit_documents,
)
from shared.submitting.files import StoredFile, upload_files
from tests.fixtures.application import Reader, Submit

SUBMITTERS = 8


@pytest.fixture
def set_status(session: Session) -> Callable[..., None]:
    def write(document_id: UUID, status: DocumentStatus, **values: object) -> None:
        session.execute(
            update(Document)
            .where(Document.id == document_id)
            .values(indexing_status=status, **values)
        )
        session.commit()

    return write


@pytest.fixture
def indexing_ended(app: Flask) -> Callable[[Submission], None]:
    """Frees the guard, as a worker does at the end of its run."""
    redis: Redis = app.extensions["redis"]
    return lambda one: guard.release(redis, one.document_id, one.version)


def stored_file(name: str, content: str) -> StoredFile:
    digest = hashlib.sha256(content.encode()).hexdigest()
    return StoredFile(name, f"upload_files/{digest}", len(content), digest, "text/plain")


def outcomes(submissions: list[Submission]) -> list[tuple[str, int]]:
    return [(one.outcome.value, one.version) for one in submissions]


def test_a_renamed_file_is_a_version_once(
    app: Flask,
    session: Session,
    dataset_id: UUID,
    reader: Reader,
    set_status: Callable[..., None],
    indexing_ended: Callable[[Submission], None],
) -> None:
    redis: Redis = app.extensions["redis"]
    seen = []
    for name in ("old.txt", "new.txt", "new.txt"):
        files = [("their own id", stored_file(name, "same"))]
        (one,) = submit_documents(session, redis, dataset_id, files)
        session.commit()
        seen += outcomes([one])
        set_status(one.document_id, DocumentStatus.COMPLETED, active_version=one.version)
        indexing_ended(one)
    assert seen == [("new", 1), ("changed", 2), ("unchanged", 2)]
    assert reader.document(one.document_id).name == "new.txt"


def test_new_then_again_then_unchanged_then_changed(
    submit: Submit,
    reader: Reader,
    set_status: Callable[..., None],
    indexing_ended: Callable[[Submission], None],
) -> None:
    (first,) = submit({"a.txt": b"one"})
    document = reader.document(first.document_id)
    assert outcomes([first]) == [("new", 1)]
    assert (document.indexing_status, document.position, document.name) == ("waiting", 1, "a.txt")
    assert document.upload_file_id is not None

    assert outcomes(submit({"a.txt": b"one"})) == [("again", 1)]

    set_status(first.document_id, DocumentStatus.COMPLETED, active_version=1, attempts=2)
    assert outcomes(submit({"a.txt": b"one"})) == [("unchanged", 1)]
    assert reader.document(first.document_id).indexing_status == "completed"

    indexing_ended(first)
    (changed,) = submit({"a.txt": b"two"})
    document = reader.document(first.document_id)
    assert outcomes([changed]) == [("changed", 2)]
    assert changed.document_id == first.document_id
    assert (document.indexing_status, document.attempts) == ("waiting", 0)
    assert document.active_version == 1, "the old version serves"
    assert document.upload_file_id is not None


def test_one_that_is_paused_says_so_until_it_is_resumed_or_changed(
    app: Flask, submit: Submit, session: Session, reader: Reader
) -> None:
    (first,) = submit({"a.txt": b"one"})
    pause_documents(session, [first.document_id], redis=app.extensions["redis"])
    session.commit()

    (again,) = submit({"a.txt": b"one"}, announce=True)
    assert (again.outcome, again.will_be_indexed) == (Outcome.PAUSED, False)
    assert reader.document(first.document_id).is_paused
    (changed,) = submit({"a.txt": b"two"})
    assert changed.outcome is Outcome.CHANGED
    assert not reader.document(first.document_id).is_paused


def test_one_that_ended_as_error_starts_again_one_that_is_paused_does_not(
    submit: Submit, reader: Reader, set_status: Callable[..., None]
) -> None:
    broken, paused = submit({"broken.txt": b"one", "paused.txt": b"one"})
    set_status(broken.document_id, DocumentStatus.ERROR, error="a reason", attempts=5)
    set_status(paused.document_id, DocumentStatus.PAUSED)

    again = submit({"broken.txt": b"one", "paused.txt": b"one"})

    assert outcomes(again) == [("again", 1), ("paused", 1)]
    document = reader.document(broken.document_id)
    assert (document.indexing_status, document.error, document.attempts) == ("waiting", None, 0)


def test_a_new_version_fences_off_the_worker_that_has_the_old_one(
    submit: Submit,
    reader: Reader,
    set_status: Callable[..., None],
    indexing_ended: Callable[[Submission], None],
) -> None:
    (first,) = submit({"a.txt": b"one"})
    set_status(
        first.document_id, DocumentStatus.INDEXING, lease_token=4, lease_expires_at=func.now()
    )
    indexing_ended(first)

    assert outcomes(submit({"a.txt": b"two"})) == [("changed", 2)]

    document = reader.document(first.document_id)
    assert (document.lease_token, document.lease_expires_at) == (5, None)
    assert document.indexing_status == "waiting"


def test_the_same_content_under_two_names_is_two_documents_and_one_stored_file(
    submit: Submit, session: Session, reader: Reader
) -> None:
    one, two = submit({"one.txt": b"same", "two.txt": b"same"})

    assert one.document_id != two.document_id
    assert [reader.document(each.document_id).position for each in (one, two)] == [1, 2]
    keys = session.scalars(select(UploadFile.storage_key)).all()
    assert len(keys) == 2
    assert len(set(keys)) == 1


def test_of_several_files_with_one_key_the_last_counts(
    app: Flask, session: Session, dataset_id: UUID, reader: Reader
) -> None:
    files = [("key", stored_file("a.txt", "one")), ("key", stored_file("b.txt", "two"))]

    (only,) = submit_documents(session, app.extensions["redis"], dataset_id, files)
    session.commit()

    assert outcomes([only]) == [("new", 1)]
    assert reader.document(only.document_id).name == "b.txt"


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "🦀 über.txt",
        "a\0b.txt",
        "\udc80.txt",
        "x" * 5000 + ".txt",
        "",
        " ",
        "'",
    ],
)
def test_every_name_is_taken_and_found_again(name: str, submit: Submit, reader: Reader) -> None:
    (first,) = submit({name: b"content"})
    (second,) = submit({name: b"content"})

    assert second.document_id == first.document_id
    assert outcomes([second]) == [("again", 1)]
    assert len(reader.document(first.document_id).name) <= 512


def test_names_that_differ_only_in_what_a_database_cannot_hold_are_two_documents(
    submit: Submit,
) -> None:
    names = ["ab", "a\0b", "\udc80", "\udc81", "?"]

    submitted = submit(dict.fromkeys(names, b"content"))

    assert len({one.document_id for one in submitted}) == len(names)


def test_a_key_of_wide_characters_fits_the_index(submit: Submit) -> None:
    wide = "".join(random.Random(7).choices([chr(n) for n in range(0x20000, 0x2A000)], k=1000))

    assert outcomes(submit({wide: b"content"})) == [("new", 1)]
    assert outcomes(submit({wide: b"content"})) == [("again", 1)]


def test_statements_do_not_grow_with_the_files(
    app: Flask, session: Session, dataset_id: UUID
) -> None:
    statements: list[str] = []
    listener = lambda *arguments: statements.append(arguments[2])  # noqa: E731
    event.listen(db.engine, "before_cursor_execute", listener)

    def count(prefix: str, files: int, content: str) -> int:
        statements.clear()
        named = [(f"{prefix}{n}", stored_file("a.txt", f"{content}{n}")) for n in range(files)]
        submit_documents(session, app.extensions["redis"], dataset_id, named)
        session.commit()
        return len(statements)

    new = [count("few", 10, "one"), count("many", 200, "one")]
    changed = [count("few", 10, "two"), count("many", 200, "two")]
    event.remove(db.engine, "before_cursor_execute", listener)

    assert new[0] == new[1] < 10
    assert changed[0] == changed[1] < 10


def test_ten_thousand_files_pass_in_one_call(session: Session, dataset_id: UUID) -> None:
    files = [stored_file("a.txt", str(n)) for n in range(10_000)]
    tenant_id = session.get_one(Dataset, dataset_id).tenant_id

    ids = upload_files(session, tenant_id, files)

    assert len(set(ids.values())) == len(ids) == 10_000


def test_submitters_of_overlapping_files_leave_no_gap_no_double_and_no_deadlock(
    app: Flask, session: Session, dataset_id: UUID, reader: Reader
) -> None:
    tenant_id = ensure_tenant(session, "acme")
    other = ensure_dataset(session, tenant_id, "other", "wordllama", "l2_supercat_256")
    session.commit()
    together = threading.Barrier(SUBMITTERS)
    failures: list[BaseException] = []

    def submit_some(number: int) -> None:
        names = random.Random(number).sample(range(60), 40)
        files = [(f"k{n}", stored_file(f"{n}.txt", f"content {n}")) for n in names]
        try:
            with Session(engine) as own, own.begin():
                own.connection()
                together.wait(300)
                target = other if number % 4 == 3 else dataset_id
                submit_documents(own, redis, target, files)
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            failures.append(error)

    engine, redis = db.engine, app.extensions["redis"]
    threads = [threading.Thread(target=submit_some, args=[n]) for n in range(SUBMITTERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)

    assert failures == []
    for dataset in (dataset_id, other):
        rows = session.execute(
            select(Document.position, Document.source_key, Document.index_version)
            .where(Document.dataset_id == dataset)
            .order_by(Document.position)
        ).all()
        assert [row.position for row in rows] == list(range(1, len(rows) + 1))
        assert len({row.source_key for row in rows}) == len(rows) > 40
        assert {row.index_version for row in rows} == {1}


def test_nothing_is_submitted_to_a_dataset_that_is_not_there(app: Flask, session: Session) -> None:
    nowhere = uuid4()

    with pytest.raises(NotFound, match=str(nowhere)):
        submit_documents(session, app.extensions["redis"], nowhere, [])


def test_what_a_crash_kept_from_being_announced_the_next_submission_announces(
    submit: Submit, app: Flask, reader: Reader
) -> None:
    redis: Redis = app.extensions["redis"]
    (first,) = submit({"a.txt": b"one"})  # committed; the producer dies here
    assert redis.llen("dataset") == 0
    assert reader.document(first.document_id).indexing_status == "waiting"

    (again,) = submit({"a.txt": b"one"}, announce=True)

    assert again.document_id == first.document_id
    assert redis.llen("dataset") == 1
    (message,) = redis.lrange("dataset", 0, -1)
    assert "worker.tasks.dataset.document_indexing_task" in message


def test_after_redis_was_emptied_the_same_producer_still_reaches_the_queue(
    submit: Submit, app: Flask, dataset_id: UUID
) -> None:
    redis: Redis = app.extensions["redis"]
    submit({"a.txt": b"one"}, announce=True)
    redis.flushall()

    submit({"b.txt": b"two"}, announce=True)

    # Behind the first, which is not done yet, by the broker's priorities.
    assert redis.llen("dataset\x06\x163") == 1


def test_unchanged_documents_are_not_announced(
    submit: Submit, session: Session, set_status: Callable[..., None]
) -> None:
    (first,) = submit({"a.txt": b"one"})
    set_status(first.document_id, DocumentStatus.COMPLETED)
    session.execute(delete(OutboxMessage))
    session.commit()

    assert outcomes(submit({"a.txt": b"one"}, announce=True)) == [("unchanged", 1)]

    assert session.scalar(select(func.count()).select_from(OutboxMessage)) == 0
