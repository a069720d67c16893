"""A table becomes segments: numbered refusals, a checkpoint a batch, nothing twice."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from flask import Flask
from sqlalchemy import delete, text
from sqlalchemy.orm import Session

from shared.errors import (
    AttemptsExhausted,
    DocumentIndexingInProgress,
    EmptyFile,
    InvalidRequest,
    LeaseHeld,
    LeaseLost,
    LimitExceeded,
    NotFound,
    Permanent,
    ServiceUnavailable,
    SubjectGone,
    UnexpectedFailure,
    UnreadableFile,
)
from shared.models import Document, db
from shared.submitting.files import StoredFile, store_file
from shared.submitting.segments import import_segments
from tests.fixtures.vector_stores import on_every_store
from tests.integration.segment_book import MANUAL, SHAPES, Book
from worker.services.dataset.needs import IndexingNeeds
from worker.services.dataset.segment_imports import give_up_import, run_import
from worker.stores.vector_stores import VectorStores
from worker.tasks import dataset as tasks
from worker.wiring import indexing_needs, remove_unused_files, sweep


@pytest.fixture
def book(app: Flask, session: Session) -> Book:
    """A document of plain text."""
    return Book(app, session, SHAPES["text"])


def stored(book: Book, content: str | bytes, name: str = "rows.csv") -> StoredFile:
    raw = content.encode() if isinstance(content, str) else content
    tenant_id = book.document().tenant_id
    return store_file(book.app.extensions["storage"], tenant_id, name, io.BytesIO(raw))


def submitted(book: Book, content: str | bytes, name: str = "rows.csv") -> UUID:
    made = import_segments(book.session, book.document_id, stored(book, content, name))
    book.session.commit()
    return made


def table(rows: int) -> str:
    return "content\n" + "".join(f"The buoy number {one} is green.\n" for one in range(rows))


def small_batches(**values: object) -> IndexingNeeds:
    return replace(indexing_needs(), batch_segments=4, **values)


@on_every_store
@pytest.mark.parametrize("shape", SHAPES)
def test_each_good_row_becomes_a_segment_and_each_bad_one_is_named(
    app: Flask, session: Session, shape: str
) -> None:
    book = Book(app, session, SHAPES[shape])
    has_answers = shape == "questions"
    rows = (
        "Question,ANSWER\nWhich buoy is green?,The first.\n,An answer\nWhich bell rings?,\n\n"
        if has_answers
        else "  Content ,note\nThe first buoy is green.,a\n,b\n\n" + "x" * 50_001 + ",c\n"
    )
    rows += "The second bell rings?,The second.\n"
    made = submitted(book, rows)
    assert book.messages() == [("batch_create_segment_to_index_task", [str(made)])]

    for _ in range(2):
        tasks.batch_create_segment_to_index_task(str(made))

    row = book.import_row(made)
    assert (row.status, row.error) == ("completed", None)
    assert (row.imported_rows, row.refused_rows) == (2, 2)
    assert row.problems == (
        [{"row": 3, "reason": "it has no question"}, {"row": 4, "reason": "it has no answer"}]
        if has_answers
        else [
            {"row": 3, "reason": "it has no content"},
            {"row": 5, "reason": "its content has 50,001 characters, more than 50,000"},
        ]
    )
    contents = book.contents()
    assert len(contents) == 3
    assert contents[2] == ("The second bell rings?", "completed")
    answers = [one.answer for one in book.place.segments(book.document_id)][1:]
    assert answers == (["The first.", "The second."] if has_answers else [None, None])
    assert "The second bell rings?" in book.found("Which bell rings?")
    book.require_sound()


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("分段内容\n浮标是绿色的。\n", "rows.csv"),
        ("内容\n浮标是绿色的。\n".encode("gb18030"), "rows.csv"),
        ("\ufeffsegment content\r\n浮标是绿色的。\r\n", "rows.csv"),
        ("note;TEXT\nx;浮标是绿色的。\n", "rows.csv"),
        ("Content\tnote\n浮标是绿色的。\tx\n", "ROWS.TSV"),
        ("浮标是绿色的。,no names\n", "rows.csv"),
    ],
)
def test_a_table_is_read_as_people_write_it(book: Book, content: str | bytes, name: str) -> None:
    run_import(submitted(book, content, name), indexing_needs())
    assert [one for one, _ in book.contents()] == [MANUAL, "浮标是绿色的。"]


BAD = {
    "names only": ("content\n", Permanent, "none but the names"),
    "blank": ("\n \n", EmptyFile, "no row"),
    "all refused": ("content,note\n,a\n,b\n", Permanent, r"no row .*\(row 2: it has no content"),
    "binary": (b"\x89PNG\r\n\x1a\n" + bytes(99), UnreadableFile, "not text"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_table_without_a_good_row_is_an_error_that_says_why(book: Book, kind: str) -> None:
    content, error, reason = BAD[kind]
    made = submitted(book, content)
    with pytest.raises(error, match=reason):
        run_import(made, indexing_needs())
    assert book.import_row(made).status == "error"
    run_import(made, indexing_needs())
    assert [one for one, _ in book.contents()] == [MANUAL]
    book.require_sound()


QUOTES = {
    "to the end": (table(8) + '"never closed\n' + "The bell rings.\n" * 9, "row 10"),
    "to the next": (table(3) + '"never closed\nThe bell rings.\n"A horn."\n', "row 5"),
    "too long": (table(8) + '"' + "never closed " * 400_000, "row 10"),
}


@pytest.mark.parametrize("kind", QUOTES)
def test_an_unclosed_quote_swallows_no_row(book: Book, kind: str) -> None:
    """Nothing of such a table goes in: mended and imported again, it would be there twice."""
    content, row = QUOTES[kind]
    made = submitted(book, content)
    with pytest.raises(UnreadableFile, match=f"{row}, .*unclosed quote"):
        run_import(made, small_batches())
    imported = book.import_row(made)
    assert (imported.status, imported.imported_rows) == ("error", 0)
    assert len(book.contents()) == 1
    book.require_sound()


def test_quotes_that_are_closed_hold_what_they_hold(book: Book) -> None:
    run_import(submitted(book, 'content\n"A ""green""\nbuoy, lit."\n5" of rope\n'), small_batches())
    assert [one for one, _ in book.contents()][1:] == ['A "green"\nbuoy, lit.', '5" of rope']


def test_the_table_leaves_the_storage_when_its_rows_are_in(book: Book, tmp_path: Path) -> None:
    own, both = (stored(book, table(number), f"{number}.csv") for number in (2, 3))
    made = import_segments(book.session, book.document_id, own)
    other = book.place.add("rows.txt", "The bell rings.")
    ours = import_segments(book.session, book.document_id, both)
    theirs = import_segments(book.session, other, both)
    book.session.commit()

    def is_there(file: StoredFile) -> bool:
        return (tmp_path / "storage" / file.key).exists()

    for done in (made, ours):
        run_import(done, indexing_needs())
        remove_unused_files()
    assert not is_there(own)
    assert is_there(both), "another import needs it"
    assert book.import_row(made).upload_file_id is None
    run_import(made, indexing_needs())

    give_up_import(theirs, indexing_needs(), "out of attempts")
    remove_unused_files()
    assert is_there(both), "a replay needs it"
    _let_it_go_on(theirs, "permanent")
    run_import(theirs, indexing_needs())
    assert book.import_row(theirs).status == "completed"
    remove_unused_files()
    assert not is_there(both)


def test_the_table_of_a_failed_import_goes_with_its_document(book: Book, tmp_path: Path) -> None:
    file = stored(book, "content\n")
    made = import_segments(book.session, book.document_id, file)
    book.session.commit()
    with pytest.raises(Permanent):
        run_import(made, indexing_needs())
    book.session.execute(delete(Document).where(Document.id == book.document_id))
    book.session.commit()
    remove_unused_files()
    assert not (tmp_path / "storage" / file.key).exists()


def test_no_more_problems_are_kept_than_a_person_reads(book: Book) -> None:
    made = submitted(book, table(1) + ",x\n" * 250)
    run_import(made, small_batches())
    row = book.import_row(made)
    assert (row.status, row.refused_rows, len(row.problems)) == ("completed", 250, 100)
    assert (row.problems[0]["row"], row.last_row) == (3, 252)


class Deathly(BaseException):
    """A process that ends here runs nothing more."""


ERRORS = {
    "transient": (ServiceUnavailable("away"), ServiceUnavailable, "waiting"),
    "permanent": (Permanent("never"), Permanent, "error"),
    "defect": (ZeroDivisionError("a defect"), UnexpectedFailure, "error"),
    "death": (Deathly(), Deathly, "indexing"),
}


@on_every_store
@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("stage", ["embedding", "sending", "writing"])
def test_whatever_stops_it_the_next_delivery_goes_on_behind_the_checkpoint(
    book: Book, kind: str, stage: str
) -> None:
    error, raised, status = ERRORS[kind]
    made = submitted(book, table(10))
    calls = iter(range(99))

    def fail_at_the_third() -> None:
        if next(calls) == 2:
            raise error

    if stage == "sending" and not indexing_needs().vectors.at(None).is_external:
        pytest.skip("nothing is sent ahead to the database")
    if stage == "embedding":
        needs = small_batches(embedders=book.embedder(fail_at_the_third)[1].embedders)
    else:
        needs = small_batches(vectors=VectorStores(Breaking(stage, fail_at_the_third)))
    with pytest.raises(raised):
        run_import(made, needs)

    row = book.import_row(made)
    assert (row.status, row.imported_rows, row.last_row) == (status, 8, 9)
    assert len(book.contents()) == 1 + 8
    book.require_sound()

    _let_it_go_on(made, kind)
    observed, needs = book.embedder()
    run_import(made, needs)

    row = book.import_row(made)
    assert (row.status, row.error, row.imported_rows, row.last_row) == ("completed", None, 10, 11)
    assert observed.texts == ["The buoy number 8 is green.", "The buoy number 9 is green."]
    assert [one for one, _ in book.contents()][1:] == table(10).splitlines()[1:]
    book.require_sound()


class Breaking:
    """The store of the application; calls back after each write, ahead or with the rows."""

    def __init__(self, stage: str, after: Callable[[], None]) -> None:
        self._real, self._stage, self._after = indexing_needs().vectors.at(None), stage, after

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)

    def upsert(self, session: Session, batch: object) -> None:
        self._real.upsert(session, batch)
        if self._stage == "writing":
            self._after()

    def send(self, batch: object) -> None:
        self._real.send(batch)
        if self._stage == "sending":
            self._after()


def _let_it_go_on(import_id: UUID, kind: str) -> None:
    if kind == "death":
        with db.engine.begin() as connection:
            connection.execute(text("UPDATE segment_imports SET lease_expires_at = now()"))
    elif kind != "transient":
        with Session(db.engine) as session, session.begin():
            tasks.batch_create_segment_to_index_task.revive(session, [str(import_id)], {})


CHANGES = {
    "taken over": ("UPDATE segment_imports SET lease_token = 99", LeaseLost),
    "deleted": ("DELETE FROM segment_imports", LeaseLost),
    "document deleted": ("DELETE FROM documents", (LeaseLost, SubjectGone)),
    "indexed again": ("UPDATE documents SET active_version = 2, index_version = 2", Permanent),
}


@on_every_store
@pytest.mark.parametrize("change", CHANGES)
def test_what_happens_meanwhile_stops_it_without_a_trace(book: Book, change: str) -> None:
    statement, raised = CHANGES[change]
    made = submitted(book, table(10))
    calls = iter(range(99))

    def meanwhile() -> None:
        if next(calls) == 1:
            with db.engine.begin() as connection:
                connection.execute(text(statement))

    _, needs = book.embedder(meanwhile)
    with pytest.raises(raised):
        run_import(made, replace(needs, batch_segments=4))

    if change == "document deleted":
        with pytest.raises(SubjectGone):
            run_import(made, needs)
        return
    assert len(book.contents()) == 1 + 4
    if change == "indexed again":
        row = book.import_row(made)
        assert row.status == "error"
        assert "indexed again meanwhile: 4 rows" in (row.error or "")
    else:
        book.require_sound()


def test_a_second_worker_steps_back(book: Book) -> None:
    made = submitted(book, table(2))

    def also() -> None:
        with pytest.raises(LeaseHeld):
            run_import(made, indexing_needs())

    run_import(made, book.embedder(also)[1])
    assert len(book.contents()) == 3


def test_no_document_becomes_larger_than_it_may(book: Book) -> None:
    made = submitted(book, table(10))
    with pytest.raises(LimitExceeded, match="more than 6 segments"):
        run_import(made, small_batches(max_segments=6))
    assert len(book.contents()) == 5
    book.require_sound()


def test_what_kills_its_worker_is_given_up(book: Book) -> None:
    made = submitted(book, table(2))
    book.session.execute(text("UPDATE segment_imports SET deaths = 99"))
    book.session.commit()
    with pytest.raises(AttemptsExhausted, match="died"):
        run_import(made, indexing_needs())
    assert book.import_row(made).status == "error"


def test_a_message_given_up_ends_the_import_with_the_reason(book: Book) -> None:
    made = submitted(book, table(2))
    give_up_import(made, indexing_needs(), "out of attempts")
    row = book.import_row(made)
    assert (row.status, row.error) == ("error", "out of attempts")


def test_the_sweeper_announces_an_import_without_a_message(book: Book) -> None:
    made = submitted(book, table(2))
    book.drop_messages()
    book.session.execute(text("UPDATE segment_imports SET queued_at = now() - interval '1 hour'"))
    book.session.commit()
    for _ in range(2):
        sweep()
    assert book.messages() == [("batch_create_segment_to_index_task", [str(made)])]


def test_what_cannot_be_imported_is_refused_at_once(book: Book) -> None:
    session = book.session
    with pytest.raises(NotFound):
        import_segments(session, uuid4(), stored(book, table(1)))
    with pytest.raises(InvalidRequest, match="no table"):
        import_segments(session, book.document_id, stored(book, "x", "rows.txt"))
    with pytest.raises(InvalidRequest, match="0 bytes"):
        import_segments(session, book.document_id, stored(book, ""))
    session.rollback()
    submitted(book, table(1))
    with pytest.raises(InvalidRequest, match="being imported"):
        import_segments(session, book.document_id, stored(book, table(1)))
    session.rollback()
    session.execute(text("UPDATE documents SET indexing_status = 'indexing'"))
    session.commit()
    with pytest.raises(DocumentIndexingInProgress):
        import_segments(session, book.document_id, stored(book, table(2)))


def test_batches_bound_what_is_held(book: Book) -> None:
    """No call of the model, and no transaction, grows with the table."""
    made = submitted(book, table(2000))
    observed, needs = book.embedder()
    run_import(made, replace(needs, batch_segments=100))
    assert max(len(call) for call in observed.calls) == 100
    assert len(observed.calls) == 20
    assert book.document().total_segments == 2001
    book.require_sound()


def test_after_its_document_is_gone_there_is_nothing_to_do(book: Book) -> None:
    made = submitted(book, table(2))
    book.session.execute(delete(Document).where(Document.id == book.document_id))
    book.session.commit()
    with pytest.raises(SubjectGone):
        tasks.batch_create_segment_to_index_task(str(made))
