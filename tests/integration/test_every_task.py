"""Every task that works on documents and segments, by one table: whatever happens, the same rows.

As it should go, twice, killed before each of its transactions, with every lease lost before
each of them, and after its document was deleted. What the rows say in the end is compared
with what they say when nothing happened.
"""

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import delete, event, text
from sqlalchemy.orm import Session

from shared.contract import DATASET_QUEUE, TASKS
from shared.errors import NotFound, Superseded
from shared.models import Document, db
from shared.submitting.control import pause_documents
from shared.submitting.files import store_file
from shared.submitting.segments import disable_segments, enable_segments, import_segments
from tests.integration.segment_book import SHAPES, Book
from worker.delivery.reaping import leased_tables
from worker.tasks import dataset as document_tasks
from worker.tasks import segments as segment_tasks

HORN = "The fog horn sounds twice a minute in thick weather."
#: These work on a server's answers or in several messages: their own tests do all of this.
ELSEWHERE = {
    "document_indexing_sync_task": "tests/integration/test_syncing.py",
    "deal_dataset_vector_index_task": "tests/integration/test_dataset_index.py",
    "build_dataset_index_task": "tests/integration/test_dataset_index.py",
    "clean_dataset_index_task": "tests/integration/test_dataset_index.py",
}
_MOST_TRANSACTIONS = 60


class Killed(BaseException):
    """A process that ends here runs nothing more."""


@dataclass(frozen=True)
class Case:
    """A task, and what is there when it is called."""

    name: str
    prepare: Callable[[Book], list[Any]]


def _changed(book: Book) -> None:
    book.place.submit(book.shape.name, HORN * 3)


def _of_document(book: Book) -> list[Any]:
    return [str(book.place.dataset_id), str(book.document_id)]


def _new(book: Book) -> list[Any]:
    _changed(book)
    return [str(book.place.dataset_id), [str(book.document_id)]]


def _again(book: Book) -> list[Any]:
    return [str(book.place.dataset_id), [str(book.document_id)]]


def _failed(book: Book) -> list[Any]:
    book.session.execute(text("UPDATE documents SET indexing_status = 'error', error = 'why'"))
    book.session.commit()
    return _again(book)


def _paused(book: Book) -> list[Any]:
    _changed(book)
    pause_documents(book.session, [book.document_id])
    book.session.commit()
    return _of_document(book)


def _shown(book: Book) -> list[Any]:
    return [str(book.document_id)]


def _made(book: Book) -> list[Any]:
    return [str(book.create(HORN))]


def _edited(book: Book) -> list[Any]:
    book.update(book.first(), HORN)
    return [str(book.first())]


def _imported(book: Book) -> list[Any]:
    rows = "\n".join(["content", *(f"{HORN} {number}" for number in range(5)), ""])
    storage = book.app.extensions["storage"]
    tenant_id = book.document().tenant_id
    file = store_file(storage, tenant_id, "rows.csv", io.BytesIO(rows.encode()))
    made = import_segments(book.session, book.document_id, file)
    book.session.commit()
    return [str(made)]


def _disabled(book: Book) -> list[Any]:
    book.do(disable_segments, [book.first()])
    return [str(book.first())]


def _enabled(book: Book) -> list[Any]:
    _disabled(book)
    book.do(enable_segments, [book.first()])
    return [str(book.first())]


def _several(prepare: Callable[[Book], list[Any]]) -> Callable[[Book], list[Any]]:
    return lambda book: [prepare(book), *_of_document(book)]


def _gone(book: Book) -> None:
    book.session.execute(delete(Document).where(Document.id == book.document_id))
    book.session.commit()


CASES = [
    Case("document_indexing_task", _new),
    Case("document_indexing_update_task", _of_document),
    Case("duplicate_document_indexing_task", _again),
    Case("retry_document_indexing_task", _failed),
    Case("recover_document_indexing_task", _paused),
    Case("add_document_to_index_task", _shown),
    Case("remove_document_from_index_task", _shown),
    Case("clean_document_task", lambda book: _of_document(book)[::-1]),
    Case("batch_clean_document_task", lambda book: _again(book)[::-1]),
    Case("clean_dataset_task", lambda book: _of_document(book)[:1]),
    Case("clean_files_task", lambda book: _gone(book) or []),
    Case("create_segment_to_index_task", _made),
    Case("update_segment_to_index_task", _edited),
    Case("batch_create_segment_to_index_task", _imported),
    Case("enable_segment_to_index_task", _enabled),
    Case("enable_segments_to_index_task", _several(_enabled)),
    Case("disable_segment_from_index_task", _disabled),
    Case("disable_segments_from_index_task", _several(_disabled)),
    Case("delete_segment_from_index_task", _several(lambda book: [str(book.first())])),
]
each_task = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def call(case: Case, args: list[Any]) -> None:
    module = segment_tasks if hasattr(segment_tasks, case.name) else document_tasks
    getattr(module, case.name)(*args)
    # What somebody else finds noted, he does.
    document_tasks.clean_files_task()


SNAPSHOT = {
    "documents": "name, indexing_status, error, active_version IS NOT NULL, enabled, archived, "
    "is_paused, word_count, tokens, total_segments, completed_segments, keyword_segments, "
    "keyword_words, lease_expires_at, lease_owner",
    "document_segments": "content, status, error, enabled, position, word_count, tokens",
    "child_chunks": "content, position",
    "segment_keywords": "length",
    "segment_vectors": "embedding::text",
    "segment_edits": "content, status, error, lease_expires_at",
    "segment_imports": "status, error, last_row, imported_rows, refused_rows, problems::text",
    "removals": "kind",
}


def rows() -> dict[str, list[tuple[Any, ...]]]:
    """Every row as it is seen; ids, versions and times may differ."""
    with Session(db.engine) as session:
        return {
            table: sorted(
                (tuple(row) for row in session.execute(text(f"SELECT {columns} FROM {table}"))),
                key=repr,
            )
            for table, columns in SNAPSHOT.items()
        }


@contextmanager
def before_transaction(number: int, do: Callable[[], None]) -> Iterator[list[bool]]:
    """Do something as this thread begins its transaction of that number, from 0."""
    begun, met, mine = 0, [False], threading.get_ident()

    def begin(_: object) -> None:
        nonlocal begun
        if threading.get_ident() != mine or met[0]:
            return
        if begun == number:
            met[0] = True
            do()
        begun += 1

    event.listen(db.engine, "begin", begin)
    try:
        yield met
    finally:
        event.remove(db.engine, "begin", begin)


def kill() -> None:
    raise Killed


def take_over() -> None:
    """As if somebody else had claimed all there is, and given it back."""
    change("lease_token = lease_token + 1, lease_expires_at = NULL, lease_owner = NULL")


def expire() -> None:
    change("lease_expires_at = now() - interval '1 s'")


def change(values: str) -> None:
    with db.engine.connect() as connection:
        for table in leased_tables():
            connection.execute(
                text(f"UPDATE {table} SET {values} WHERE lease_expires_at IS NOT NULL")
            )
        connection.commit()


@pytest.fixture
def make(app: Flask, session: Session) -> Callable[[], Book]:
    """An indexed document in an empty database."""

    def made() -> Book:
        session.rollback()
        for table in ("removals", "outbox", "datasets", *SNAPSHOT, "upload_files"):
            session.execute(text(f"DELETE FROM {table}"))
            session.execute(text("DELETE FROM removals"))
        session.commit()
        app.extensions["redis"].flushall()
        return Book(app, session, SHAPES["text"])

    return made


@each_task
def test_whatever_happens_its_rows_are_the_same_in_the_end(
    case: Case, make: Callable[[], Book]
) -> None:
    args = case.prepare(make())
    call(case, args)
    wanted = rows()
    assert not any(one[-1] for one in wanted["documents"]), "a lease is left"
    call(case, args)
    assert rows() == wanted, "delivered twice"

    for happens in (kill, take_over):
        for number in range(_MOST_TRANSACTIONS):
            args = case.prepare(make())
            with (
                before_transaction(number, happens) as met,
                suppress(Killed, Superseded),
            ):
                call(case, args)
            if not met[0]:
                break
            expire()
            call(case, args)
            assert rows() == wanted, f"{happens.__name__} before transaction {number}"
        else:
            raise AssertionError("it begins more and more transactions")


@each_task
def test_after_its_document_is_gone_it_leaves_nothing(case: Case, make: Callable[[], Book]) -> None:
    book = make()
    args = case.prepare(book)
    _gone(book)
    with suppress(Superseded, NotFound):
        call(case, args)
    document_tasks.batch_clean_document_task([str(book.document_id)], str(book.place.dataset_id))
    found = rows()
    found.pop("removals")
    assert {table for table, left in found.items() if left} == set()


def test_no_task_of_the_queue_is_missing() -> None:
    names = {one.name.rpartition(".")[2] for one in TASKS if one.queue == DATASET_QUEUE}
    assert names == {case.name for case in CASES} | ELSEWHERE.keys()
