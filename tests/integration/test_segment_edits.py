"""Segments made and changed by hand: each task as it should go, twice, late, and interrupted."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from threading import Barrier, Thread
from uuid import UUID, uuid4

import pytest
from flask import Flask
from sqlalchemy import delete, text
from sqlalchemy.orm import Session

from shared.errors import (
    AttemptsExhausted,
    DocumentIndexingInProgress,
    InvalidRequest,
    LeaseHeld,
    LeaseLost,
    NotFound,
    Permanent,
    ServiceUnavailable,
    SubjectGone,
    UnexpectedFailure,
)
from shared.models import Document, DocumentSegment, db
from shared.submitting import control, segments
from shared.submitting.segments import create_segment, delete_segments, update_segment
from tests.fixtures.vector_stores import on_every_store, on_qdrant
from tests.integration.segment_book import MANUAL, SHAPES, Book
from worker.services.dataset.segment_edits import give_up_segment, index_segment
from worker.stores.vector_stores import VectorStores
from worker.tasks import dataset as tasks
from worker.wiring import indexing_needs, sweep

HORN = "The fog horn sounds twice a minute in thick weather."
TIDE = "The harbour gate closes when the spring tide is high."


@pytest.fixture(params=SHAPES)
def book(request: pytest.FixtureRequest, app: Flask, session: Session) -> Book:
    """A document of each shape."""
    return Book(app, session, SHAPES[request.param])


@pytest.fixture
def text_book(app: Flask, session: Session) -> Book:
    """A document of plain text."""
    return Book(app, session, SHAPES["text"])


@on_every_store
def test_a_segment_made_by_hand_is_found_once_it_is_indexed(book: Book) -> None:
    made = book.create(HORN)

    assert book.messages() == [("create_segment_to_index_task", [str(made)])]
    assert book.segment(made).status == "waiting"
    assert HORN not in book.found("fog horn")
    book.require_sound()

    for _ in range(2):
        tasks.create_segment_to_index_task(str(made))

    assert book.contents()[1:] == [(HORN, "completed")]
    assert book.found("fog horn")[0] == HORN
    assert book.edits() == []
    book.require_sound()


@on_every_store
def test_an_edit_replaces_what_is_found_in_one_step(book: Book) -> None:
    first = book.first()
    before = book.segment(first).content

    book.update(first, HORN)
    assert book.found("lighthouse lamp")[0] == before
    assert book.segment(first).content == before
    book.require_sound()

    for _ in range(2):
        tasks.update_segment_to_index_task(str(first))

    assert book.contents() == [(HORN, "completed")]
    assert before not in book.found("lighthouse lamp")
    assert book.found("fog horn") == [HORN]
    book.require_sound()


def test_what_is_there_already_costs_nothing(text_book: Book) -> None:
    first = text_book.first()
    text_book.update(first, text_book.segment(first).content)
    assert text_book.messages() == []
    assert text_book.edits() == []


@on_every_store
@pytest.mark.parametrize("shape", ["text", "parents"])
def test_new_keywords_alone_call_no_model(app: Flask, session: Session, shape: str) -> None:
    book = Book(app, session, SHAPES[shape])
    book.update(book.first(), keywords=["Signalfeuer"])
    observed, needs = book.embedder()

    index_segment(book.first(), needs)

    assert observed.texts == []
    assert [one.content for one in book.place.search("Signalfeuer", 5, "keyword")] == [MANUAL]
    book.require_sound()
    book.update(book.first(), keywords=[])
    index_segment(book.first(), needs)
    assert book.place.search("Signalfeuer", 5, "keyword") == []
    book.require_sound()


def test_a_message_of_an_older_edit_brings_the_newest(text_book: Book) -> None:
    first = text_book.first()
    text_book.update(first, HORN)
    text_book.update(first, TIDE)
    assert len(text_book.edits()) == 1

    tasks.update_segment_to_index_task(str(first))

    assert text_book.contents() == [(TIDE, "completed")]
    tasks.update_segment_to_index_task(str(first))
    text_book.require_sound()


@on_every_store
def test_an_edit_made_while_the_one_before_is_indexed_wins(text_book: Book) -> None:
    first = text_book.first()
    text_book.update(first, HORN)
    _, needs = text_book.embedder(before=lambda: _in_another_session(first, TIDE))

    with pytest.raises(LeaseLost):
        index_segment(first, needs)

    assert text_book.contents() == [(MANUAL, "waiting")]
    text_book.require_sound()
    index_segment(first, indexing_needs())
    assert text_book.contents() == [(TIDE, "completed")]
    text_book.require_sound()


def _in_another_session(segment_id: UUID, content: str) -> None:
    with Session(db.engine) as session, session.begin():
        update_segment(session, segment_id, content)


@on_every_store
def test_a_worker_frozen_since_an_older_edit_writes_nothing(text_book: Book) -> None:
    """Its edit was completed by another worker, and a newer one has the first token again."""
    first = text_book.first()
    text_book.update(first, HORN)

    def overtaken() -> None:
        with db.engine.begin() as connection:
            connection.execute(text("UPDATE segment_edits SET lease_expires_at = now()"))
        index_segment(first, indexing_needs())
        _in_another_session(first, TIDE)
        with db.engine.begin() as connection:
            connection.execute(text("UPDATE segment_edits SET lease_token = 1"))

    _, needs = text_book.embedder(before=overtaken)
    with pytest.raises(LeaseLost):
        index_segment(first, needs)

    assert text_book.segment(first).content == HORN
    assert [one.content for one in text_book.edits()] == [TIDE]
    text_book.require_sound()


def test_two_workers_one_segment(text_book: Book) -> None:
    made = text_book.create(HORN)

    def also() -> None:
        with pytest.raises(LeaseHeld):
            index_segment(made, indexing_needs())

    observed, needs = text_book.embedder(before=also)
    index_segment(made, needs)

    assert observed.texts == [HORN]
    text_book.require_sound()


@on_every_store
@pytest.mark.parametrize("what", ["segment", "document"])
def test_deleted_while_it_is_indexed(book: Book, what: str) -> None:
    made = book.create(HORN)

    def deletion() -> None:
        with Session(db.engine) as session, session.begin():
            if what == "segment":
                delete_segments(session, [made])
            else:
                session.execute(delete(Document).where(Document.id == book.document_id))

    if book.shape.technique == "economy":
        deletion()
        needs = indexing_needs()
    else:
        _, needs = book.embedder(before=deletion)
    with pytest.raises((SubjectGone, LeaseLost)):
        index_segment(made, needs)

    assert book.edits() == []
    if what == "segment":
        assert len(book.contents()) == 1
        book.require_sound()
    with pytest.raises(SubjectGone):
        tasks.create_segment_to_index_task(str(made))


class Deathly(BaseException):
    """A process that ends here runs nothing more."""


class FaultyStore:
    """The store of the application; fails before or after it sends, or writes with the rows."""

    def __init__(self, error: BaseException, at: str) -> None:
        self._error, self._at, self._real = error, at, indexing_needs().vectors.at(None)

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)

    def _fail(self, at: str) -> None:
        if self._at == at:
            raise self._error

    def send(self, batch: object) -> None:
        self._fail("before sending")
        self._real.send(batch)
        self._fail("after sending")

    def upsert(self, session: Session, batch: object) -> None:
        self._fail("before writing")
        self._real.upsert(session, batch)
        self._fail("after writing")


ERRORS = {
    "transient": (ServiceUnavailable("away"), ServiceUnavailable, "waiting"),
    "permanent": (Permanent("never"), Permanent, "error"),
    "defect": (ZeroDivisionError("a defect"), UnexpectedFailure, "error"),
    "death": (Deathly(), Deathly, "indexing"),
}


@on_every_store
@pytest.mark.parametrize("kind", ERRORS)
def test_a_fault_at_any_stage_leaves_the_old_content_and_no_halves(
    text_book: Book, kind: str
) -> None:
    error, raised, status = ERRORS[kind]

    def fail() -> None:
        raise error

    stages = {
        "embedding": text_book.embedder(before=fail)[1],
        "before writing": replace(
            indexing_needs(), vectors=VectorStores(FaultyStore(error, "before writing"))
        ),
        "after writing": replace(
            indexing_needs(), vectors=VectorStores(FaultyStore(error, "after writing"))
        ),
    }
    if indexing_needs().vectors.at(None).is_external:
        for at in ("before sending", "after sending"):
            stages[at] = replace(indexing_needs(), vectors=VectorStores(FaultyStore(error, at)))
    first = text_book.first()
    for (stage, needs), is_new in product(stages.items(), (True, False)):
        old = text_book.segment(first).content
        wanted = f"{HORN} {stage} {is_new}"
        changed = text_book.create(wanted) if is_new else first
        if not is_new:
            text_book.update(changed, wanted)
        with pytest.raises(raised):
            index_segment(changed, needs)

        row, (edit,) = text_book.segment(changed), text_book.edits()
        assert (row.status, edit.status) == (status, status)
        assert row.content == (wanted if is_new else old)
        assert text_book.segment(first).content == old
        assert old in text_book.found(old)
        assert wanted not in text_book.found(wanted)
        assert (row.error is not None) == (kind != "death")
        assert (edit.lease_expires_at is None) == (kind != "death")
        text_book.require_sound()

        _come_back(text_book, changed, kind)
        row = text_book.segment(changed)
        assert (row.status, row.content, row.error) == ("completed", wanted, None)
        assert wanted in text_book.found(wanted)
        text_book.require_sound()


def _come_back(book: Book, segment_id: UUID, kind: str) -> None:
    if kind == "death":
        with db.engine.begin() as connection:
            connection.execute(text("UPDATE segment_edits SET lease_expires_at = now()"))
    elif kind != "transient":
        book.do(segments.enable_segments, [segment_id])
        tasks.enable_segment_to_index_task(str(segment_id))
    index_segment(segment_id, indexing_needs())


class Collecting(FaultyStore):
    """Its sweeper comes by between the store and the rows."""

    def __init__(self) -> None:
        super().__init__(Deathly(), "never")

    def send(self, batch: object) -> None:
        super().send(batch)
        self._real.collect()


@on_qdrant
def test_collected_while_it_is_sent_it_is_not_lost(text_book: Book) -> None:
    needs = replace(indexing_needs(), vectors=VectorStores(Collecting()))
    made = text_book.create(HORN)
    text_book.update(text_book.first(), TIDE)
    for one in (made, text_book.first()):
        index_segment(one, needs)

    assert text_book.found("fog horn")[0] == HORN
    assert text_book.found("harbour gate")[0] == TIDE
    text_book.require_sound()


def test_what_kills_its_worker_is_given_up(text_book: Book) -> None:
    made = text_book.create(HORN)
    with db.engine.begin() as connection:
        connection.execute(text("UPDATE segment_edits SET deaths = 99"))

    with pytest.raises(AttemptsExhausted):
        index_segment(made, indexing_needs())

    assert text_book.segment(made).status == "error"
    assert "died" in (text_book.segment(made).error or "")
    text_book.require_sound()


def test_a_message_that_was_given_up_says_so_in_the_segment_and_can_be_replayed(
    text_book: Book,
) -> None:
    made = text_book.create(HORN)
    give_up_segment(made, indexing_needs(), "the broker was away")
    assert text_book.segment(made).error == "the broker was away"
    with Session(db.engine) as session, session.begin():
        tasks.create_segment_to_index_task.revive(session, [str(made)], {})
    tasks.create_segment_to_index_task(str(made))
    assert text_book.contents()[1:] == [(HORN, "completed")]
    text_book.require_sound()


def test_an_economy_segment_without_a_word_does_not_become_completed(
    app: Flask, session: Session
) -> None:
    book = Book(app, session, SHAPES["economy"])
    made = book.create("?!…")
    with pytest.raises(Permanent, match="no word"):
        index_segment(made, indexing_needs())
    assert book.segment(made).status == "error"
    book.require_sound()


def test_the_sweeper_announces_what_has_no_message(text_book: Book) -> None:
    made, first = text_book.create(HORN), text_book.first()
    text_book.update(first, TIDE)
    text_book.drop_messages()
    sweep()
    assert text_book.messages() == [], "a plain delay() still has time to arrive"

    with db.engine.begin() as connection:
        connection.execute(text("UPDATE segment_edits SET queued_at = now() - interval '1 hour'"))
    sweep()

    tasks_sent = [task for task, _ in text_book.messages()]
    assert tasks_sent == ["create_segment_to_index_task"] * 2
    assert sorted(args[0] for _, args in text_book.messages()) == sorted([str(made), str(first)])
    sweep()
    assert len(text_book.messages()) == 2


def test_a_segment_that_a_producer_of_its_own_wrote_is_indexed(text_book: Book) -> None:
    """As Dify's API does it: the row, and a plain delay()."""
    made = uuid4()
    document = text_book.document()
    text_book.session.add(
        DocumentSegment(
            id=made,
            tenant_id=document.tenant_id,
            dataset_id=document.dataset_id,
            document_id=document.id,
            version=document.active_version,
            position=50,
            content=HORN,
            word_count=0,
            tokens=0,
            index_node_hash="",
            status="waiting",
        )
    )
    document.total_segments += 1
    text_book.session.commit()
    tasks.create_segment_to_index_task(str(made), ["fog"])

    assert text_book.contents()[1:] == [(HORN, "completed")]
    text_book.require_sound()


def test_a_segment_whose_plain_message_got_lost_is_swept(text_book: Book) -> None:
    made = text_book.create(HORN)
    for statement in (
        "DELETE FROM segment_edits",
        "DELETE FROM outbox",
        "UPDATE document_segments SET created_at = now() - interval '1 hour'",
    ):
        text_book.session.execute(text(statement))
    text_book.session.commit()

    sweep()

    assert text_book.messages() == [("create_segment_to_index_task", [str(made)])]


@on_every_store
def test_a_reindex_makes_the_document_anew_from_its_file(text_book: Book) -> None:
    made = text_book.create(HORN)
    tasks.create_segment_to_index_task(str(made))
    late, swept = text_book.create(TIDE), text_book.create(TIDE)

    text_book.place.add(text_book.shape.name, TIDE * 2)

    assert [content for content, _ in text_book.contents()] == [f"{TIDE}{TIDE}"]
    text_book.require_sound()
    assert [one.segment_id for one in text_book.edits()] == [late, swept]
    index_segment(late, indexing_needs())
    assert [one.segment_id for one in text_book.edits()] == [swept]
    sweep()
    assert text_book.edits() == []


@pytest.mark.parametrize(
    ("content", "options", "reason"),
    [
        (" \n\t", {}, "empty"),
        ("\0", {}, "empty"),
        ("x" * 50_001, {}, "50,000"),
        (HORN, {"answer": "No."}, "qa_model"),
        (HORN, {"keywords": "one text"}, "list"),
        (HORN, {"keywords": ["word"] * 101}, "up to 100"),
    ],
)
def test_wrong_content_is_refused_at_once(
    text_book: Book, content: str, options: dict, reason: str
) -> None:
    for change, about in (
        (create_segment, text_book.document_id),
        (update_segment, text_book.first()),
    ):
        with pytest.raises(InvalidRequest, match=reason):
            change(text_book.session, about, content, **options)
        text_book.session.rollback()
    assert len(text_book.contents()) == 1


def test_a_question_needs_an_answer(app: Flask, session: Session) -> None:
    book = Book(app, session, SHAPES["questions"])
    with pytest.raises(InvalidRequest, match="answer is missing"):
        create_segment(session, book.document_id, "Which horn?")
    session.rollback()
    with pytest.raises(InvalidRequest, match="answer is missing"):
        update_segment(session, book.first(), answer=" ")


STATES = {
    "archived": ("archived = true", InvalidRequest, "archive"),
    "disabled": ("enabled = false", InvalidRequest, "enable it"),
    "waiting": ("indexing_status = 'waiting'", DocumentIndexingInProgress, "being indexed"),
    "indexing": ("indexing_status = 'indexing'", DocumentIndexingInProgress, "being indexed"),
    "paused": ("indexing_status = 'paused'", InvalidRequest, "resume"),
    "unserved": (
        "indexing_status = 'error', error = 'why', active_version = NULL",
        InvalidRequest,
        "why",
    ),
}


@pytest.mark.parametrize("state", STATES)
def test_a_document_that_cannot_be_edited_says_why(text_book: Book, state: str) -> None:
    first = text_book.first()
    change, error, reason = STATES[state]
    text_book.session.execute(text(f"UPDATE documents SET {change}"))
    text_book.session.commit()
    calls: list[Callable[[], object]] = [
        lambda: create_segment(text_book.session, text_book.document_id, HORN),
        lambda: update_segment(text_book.session, first, HORN),
    ]
    for call in calls:
        with pytest.raises(error, match=reason):
            call()
        text_book.session.rollback()


def test_nothing_is_known_by_another_id(text_book: Book) -> None:
    with pytest.raises(NotFound):
        create_segment(text_book.session, uuid4(), HORN)
    with pytest.raises(NotFound):
        update_segment(text_book.session, uuid4(), HORN)


def test_a_pause_counts_pending_edits_rightly(text_book: Book) -> None:
    """Whoever recounts a document's segments leaves out what is not completed."""
    text_book.create(HORN)
    text_book.place.submit(text_book.shape.name, TIDE)
    control.cancel_documents(text_book.session, [text_book.document_id])
    text_book.session.commit()
    text_book.require_sound()


def test_many_at_once_get_a_place_each(text_book: Book) -> None:
    barrier, made = Barrier(4), []

    def create(number: int) -> None:
        barrier.wait()
        with text_book.app.app_context():
            for index in range(5):
                with Session(db.engine) as session, session.begin():
                    one = create_segment(session, text_book.document_id, f"{HORN} {number} {index}")
                index_segment(one, indexing_needs())
                made.append(one)

    threads = [Thread(target=create, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(made)) == 20
    assert [one.position for one in text_book.place.segments(text_book.document_id)] == list(
        range(21)
    )
    assert {status for _, status in text_book.contents()} == {"completed"}
    text_book.require_sound()
