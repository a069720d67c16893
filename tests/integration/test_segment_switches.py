"""Segments are enabled, disabled and deleted: by their rows at once, by their tasks at any time."""

from uuid import UUID, uuid4

import pytest
from flask import Flask
from sqlalchemy import delete, select, text, update
from sqlalchemy.orm import Session

from shared.errors import DocumentIndexingInProgress, InvalidRequest, NotFound
from shared.models import ChildChunk, Document, DocumentSegment, SegmentVector, db
from shared.submitting.segments import delete_segments, disable_segments, enable_segments
from tests.fixtures.vector_stores import on_every_store
from tests.integration.segment_book import MANUAL, SHAPES, Book
from worker.services.dataset.segment_settling import settle_segments
from worker.tasks import dataset as tasks

HORN = "The fog horn sounds twice a minute in thick weather."


@pytest.fixture(params=SHAPES)
def book(request: pytest.FixtureRequest, app: Flask, session: Session) -> Book:
    """A document of each shape, with a second segment."""
    made = Book(app, session, SHAPES[request.param])
    tasks.create_segment_to_index_task(str(made.create(HORN)))
    made.drop_messages()
    return made


@pytest.fixture
def text_book(app: Flask, session: Session) -> Book:
    """A document of plain text."""
    return Book(app, session, SHAPES["text"])


def both(book: Book) -> list[UUID]:
    return [one.id for one in book.place.segments(book.document_id)]


@on_every_store
def test_a_disabled_segment_is_hidden_at_once_and_enabled_without_a_call(book: Book) -> None:
    first, second = both(book)
    observed, needs = book.embedder()

    assert book.do(disable_segments, [second]) == [second]
    assert HORN not in book.found("fog horn")
    assert book.do(disable_segments, [second]) == []
    settle_segments([second], needs)
    assert HORN not in book.found("fog horn")
    book.require_sound()

    assert book.do(enable_segments, [first, second]) == [second]
    assert HORN in book.found("fog horn")
    settle_segments([first, second], needs)
    assert HORN in book.found("fog horn")
    assert observed.texts == []
    assert book.edits() == []
    book.require_sound()


@pytest.mark.parametrize("number", [1, 2])
def test_each_change_has_its_task(text_book: Book, number: int) -> None:
    text_book.create(HORN)
    text_book.drop_messages()
    ids = both(text_book)[:number]
    for change in (disable_segments, enable_segments, delete_segments):
        text_book.do(change, ids)
    texts = [str(one) for one in ids]
    several = [texts, str(text_book.place.dataset_id), str(text_book.document_id)]
    assert text_book.messages() == [
        ("disable_segment_from_index_task", texts)
        if number == 1
        else ("disable_segments_from_index_task", several),
        ("enable_segment_to_index_task", texts)
        if number == 1
        else ("enable_segments_to_index_task", several),
        ("delete_segment_from_index_task", several),
    ]
    for name, args in text_book.messages():
        getattr(tasks, name)(*args)
    assert len(both(text_book)) == 2 - number
    text_book.require_sound()


def test_a_late_message_does_not_undo_what_came_after_it(text_book: Book) -> None:
    first = text_book.first()
    text_book.do(disable_segments, [first])
    text_book.do(enable_segments, [first])
    tasks.disable_segment_from_index_task(str(first))
    assert text_book.segment(first).enabled
    assert text_book.found("lamp") == [MANUAL]
    text_book.do(disable_segments, [first])
    tasks.enable_segment_to_index_task(str(first))
    assert not text_book.segment(first).enabled


@on_every_store
def test_enabling_brings_back_what_the_index_has_lost(book: Book) -> None:
    first, second = both(book)
    book.lose_index()

    for _ in range(2):
        tasks.enable_segments_to_index_task([str(first), str(second)], "", "")
    assert len(book.messages()) == 2
    for _, args in book.messages():
        tasks.create_segment_to_index_task(*args)

    assert HORN in book.found("fog horn")
    assert {status for _, status in book.contents()} == {"completed"}
    book.require_sound()


STATES = {
    "enabled": None,
    "disabled": "UPDATE document_segments SET enabled = false",
    "waiting": "UPDATE document_segments SET status = 'waiting'",
    "failed": "UPDATE document_segments SET status = 'error'",
    "document disabled": "UPDATE documents SET enabled = false",
    "document archived": "UPDATE documents SET archived = true",
    "document failed": "UPDATE documents SET indexing_status = 'error'",
    "document paused": "UPDATE documents SET indexing_status = 'paused', is_paused = true",
    "document waiting": "UPDATE documents SET indexing_status = 'waiting', index_version = 2",
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("by", ["producer", "task"])
def test_deletion_skips_nothing(text_book: Book, state: str, by: str) -> None:
    made = text_book.create(HORN)
    tasks.create_segment_to_index_task(str(made))
    if STATES[state]:
        text_book.session.execute(text(STATES[state]))
        if state in {"waiting", "failed"}:
            text_book.session.execute(text("UPDATE documents SET completed_segments = 0"))
        text_book.session.commit()

    about = ([str(made)], str(text_book.place.dataset_id), str(text_book.document_id))
    if by == "producer":
        assert text_book.do(delete_segments, [made]) == [made]
        assert HORN not in text_book.found("fog horn")
    for _ in range(2):
        tasks.delete_segment_from_index_task(*about)

    assert [content for content, _ in text_book.contents()] == [MANUAL]
    text_book.require_sound()
    if by == "producer":
        with pytest.raises(NotFound):
            delete_segments(text_book.session, [made])


@on_every_store
def test_deletion_takes_all_that_belongs_to_a_segment(book: Book) -> None:
    first, second = both(book)
    book.update(second, HORN * 2)
    book.do(delete_segments, [second])
    assert both(book) == [first]
    assert book.edits() == []
    book.require_sound()
    book.do(delete_segments, [first])
    assert book.place.rows(book.document_id).orphan_vectors == 0
    assert (book.document().total_segments, book.document().word_count) == (0, 0)
    book.require_sound()


def test_what_a_producer_of_its_own_deleted_leaves_nothing(app: Flask, session: Session) -> None:
    """As Dify's API does it: the rows first, then the message with every id."""
    book = Book(app, session, SHAPES["parents"])
    first = book.first()
    children = [str(one.id) for one in book.place.children(book.document_id)]
    session.execute(delete(DocumentSegment).where(DocumentSegment.id == first))
    session.commit()

    for _ in range(2):
        tasks.delete_segment_from_index_task(
            [str(first)], str(book.place.dataset_id), str(book.document_id), [str(first)], children
        )

    session.rollback()
    assert session.scalars(select(SegmentVector.id)).all() == []
    assert session.scalars(select(ChildChunk.id)).all() == []


def test_after_the_document_is_gone_the_tasks_find_nothing_to_do(text_book: Book) -> None:
    first = text_book.first()
    text_book.session.execute(delete(Document).where(Document.id == text_book.document_id))
    text_book.session.commit()
    for task in (
        tasks.enable_segment_to_index_task,
        tasks.disable_segment_from_index_task,
    ):
        task(str(first))
    about = ([str(first)], str(text_book.place.dataset_id), str(text_book.document_id))
    tasks.enable_segments_to_index_task(*about)
    tasks.disable_segments_from_index_task(*about)
    tasks.delete_segment_from_index_task(*about)
    assert text_book.messages() == []


def test_while_a_document_is_indexed_its_flags_stay(text_book: Book) -> None:
    first = text_book.first()
    text_book.session.execute(update(Document).values(indexing_status="indexing", index_version=2))
    text_book.session.commit()
    for change in (enable_segments, disable_segments):
        with pytest.raises(DocumentIndexingInProgress):
            change(text_book.session, [first])
        text_book.session.rollback()


def test_a_segment_of_the_version_being_made_cannot_be_deleted_yet(text_book: Book) -> None:
    first = text_book.first()
    text_book.session.execute(
        update(Document).values(indexing_status="indexing", active_version=None)
    )
    text_book.session.commit()
    with pytest.raises(DocumentIndexingInProgress):
        delete_segments(text_book.session, [first])


def test_wrong_ids_are_refused_at_once(text_book: Book) -> None:
    first = text_book.first()
    for change in (enable_segments, disable_segments, delete_segments):
        with pytest.raises(NotFound):
            change(text_book.session, [first, uuid4()])
        text_book.session.rollback()
        with pytest.raises(InvalidRequest, match="at least one"):
            change(text_book.session, [])
        with pytest.raises(InvalidRequest, match="up to 1,000"):
            change(text_book.session, [uuid4() for _ in range(1001)])
    text_book.session.rollback()
    assert text_book.segment(first).enabled


@on_every_store
def test_a_deletion_and_a_reindex_at_once_leave_right_counters(text_book: Book) -> None:
    """A segment of the old version goes while the new one is made."""
    made = text_book.create(HORN)
    tasks.create_segment_to_index_task(str(made))
    submission = text_book.place.submit(text_book.shape.name, HORN * 2)

    def deletion() -> None:
        with Session(db.engine) as session, session.begin():
            delete_segments(session, [made])

    observed, _ = text_book.embedder(before=deletion)
    text_book.place.index(submission.document_id, embedders=lambda *_: observed)

    assert len(both(text_book)) == 1
    text_book.require_sound()
