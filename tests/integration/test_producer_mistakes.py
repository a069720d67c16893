"""What a producer does wrong gets a typed error at once; an id may be text, as Dify's are."""

from collections.abc import Callable
from io import BytesIO
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask import Flask
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shared.errors import InvalidRequest, NotFound, UnusableUrl
from shared.models import Document, OutboxMessage
from shared.submitting.availability import (
    archive_documents,
    disable_documents,
    enable_documents,
    unarchive_documents,
)
from shared.submitting.control import cancel_documents, pause_documents, resume_documents
from shared.submitting.dataset import submit_documents
from shared.submitting.dataset_index import change_dataset_index, index_builds
from shared.submitting.datasets import ensure_dataset, ensure_tenant
from shared.submitting.files import StoredFile, store_file
from shared.submitting.process_rules import rule_of_document, set_dataset_rule, set_document_rule
from shared.submitting.progress import document_progress
from shared.submitting.reindexing import duplicate_documents, retry_documents, update_document
from shared.submitting.removing import delete_dataset, delete_documents
from shared.submitting.segments import (
    create_segment,
    delete_segments,
    disable_segments,
    enable_segments,
    import_segments,
    update_segment,
)
from shared.submitting.urls import submit_urls, sync_documents
from tests.fixtures.application import Submit
from tests.integration.segment_book import SHAPES, Book
from worker.tasks.dataset import document_indexing_task
from worker.tasks.segments import delete_segment_from_index_task

OF_SEVERAL: list[Callable[..., list[UUID]]] = [
    archive_documents,
    cancel_documents,
    delete_documents,
    delete_segments,
    disable_documents,
    disable_segments,
    duplicate_documents,
    enable_documents,
    enable_segments,
    pause_documents,
    resume_documents,
    retry_documents,
    unarchive_documents,
]
RULE = {"mode": "automatic"}
OF_ONE: list[Callable[[Session, Any], Any]] = [
    delete_dataset,
    rule_of_document,
    lambda session, one: update_document(session, one, rule=RULE),
    lambda session, one: set_dataset_rule(session, one, RULE),
    lambda session, one: set_document_rule(session, one, RULE),
    lambda session, one: change_dataset_index(session, one, "update"),
    lambda session, one: ensure_dataset(session, one, "manuals"),
    lambda session, one: create_segment(session, one, "A lamp."),
    lambda session, one: update_segment(session, one, "A lamp."),
]


@pytest.mark.parametrize("call", OF_SEVERAL)
def test_ids_that_are_none_or_unknown_are_refused(
    session: Session, call: Callable[..., list[UUID]]
) -> None:
    wrong: list[Any] = [["a.txt"], [None], [7], "0" * 32, uuid4(), None]
    for ids in wrong:
        with pytest.raises(InvalidRequest, match=r"is not a UUID|is a list of ids"):
            call(session, ids)
    with pytest.raises(NotFound):
        call(session, [str(uuid4())])


@pytest.mark.parametrize("call", OF_ONE)
def test_one_id_that_is_none_or_unknown_is_refused(
    session: Session, call: Callable[[Session, Any], Any]
) -> None:
    for given in ("nope", None):
        with pytest.raises(InvalidRequest, match="is not a UUID"):
            call(session, given)
    with pytest.raises(NotFound):
        call(session, str(uuid4()))


def test_what_only_reads_refuses_an_id_that_is_none(session: Session, app: Flask) -> None:
    storage = app.extensions["storage"]
    calls: list[Callable[[Any], Any]] = [
        lambda one: index_builds(session, one),
        lambda one: document_progress(session, [one]),
        lambda one: store_file(storage, one, "a.txt", BytesIO(b"one")),
    ]
    for call in calls:
        for given in ("nope", None, "../elsewhere"):
            with pytest.raises(InvalidRequest, match="is not a UUID"):
                call(given)
    unknown = str(uuid4())
    assert index_builds(session, unknown) == document_progress(session, [unknown]) == []


@pytest.mark.parametrize(
    ("provider", "model", "reason"),
    [
        ("opneai", "gpt", "no embedding provider 'opneai', only: wordllama, openai_compatible"),
        ("wordllama", "l2_cat", "wordllama has no model 'l2_cat', only: l2_supercat_256"),
        (None, "bge-m3", "wordllama has no model"),
        (" ", "bge-m3", "provider is a name"),
        ("openai_compatible", " ", "model is a name"),
        ("openai_compatible", "m" * 256, "at most 255"),
        (7, "bge-m3", "provider is a name"),
    ],
)
def test_a_model_that_cannot_be_is_refused_at_once(
    session: Session, dataset_id: UUID, provider: Any, model: str, reason: str
) -> None:
    for action in ("add", "update"):
        with pytest.raises(InvalidRequest, match=reason):
            change_dataset_index(
                session, dataset_id, action, embedding_provider=provider, embedding_model=model
            )
    if provider is not None:
        with pytest.raises(InvalidRequest, match=reason):
            ensure_dataset(session, ensure_tenant(session, "ours"), "new", provider, model)
    assert index_builds(session, dataset_id) == []
    change_dataset_index(
        session,
        dataset_id,
        "update",
        embedding_provider="openai_compatible",
        embedding_model="bge-m3",
    )
    assert len(index_builds(session, str(dataset_id))) == 1


@pytest.mark.parametrize("call", [pause_documents, disable_documents, archive_documents])
def test_an_id_as_text_is_that_document_once(
    session: Session, submit: Submit, call: Callable[..., list[UUID]]
) -> None:
    (submission,) = submit({"a.txt": b"one"})
    one = submission.document_id
    assert call(session, [str(one), one]) == [one]


def test_a_document_is_deleted_by_its_id_as_text(session: Session, submit: Submit) -> None:
    (submission,) = submit({"a.txt": b"one"})
    assert delete_documents(session, [str(submission.document_id)]) == [submission.document_id]
    assert session.get(Document, submission.document_id) is None


def test_a_file_of_another_tenant_is_refused(session: Session, app: Flask, submit: Submit) -> None:
    (submission,) = submit({"a.txt": b"one"})
    document = session.get_one(Document, submission.document_id)
    session.commit()
    written = session.scalar(select(func.count()).select_from(OutboxMessage))
    theirs = store_file(
        app.extensions["storage"], ensure_tenant(session, "theirs"), "a.txt", BytesIO(b"secret")
    )
    with pytest.raises(InvalidRequest, match="another tenant"):
        submit_documents(session, app.extensions["redis"], document.dataset_id, [("a.txt", theirs)])
    session.rollback()
    assert session.scalar(select(func.count()).select_from(OutboxMessage)) == written


@pytest.mark.parametrize(
    ("key", "file"),
    [
        (None, StoredFile("a", "upload_files/a", 1, "0" * 64, "text/plain")),
        ("a", "a.txt"),
    ],
)
def test_what_is_no_file_or_key_is_refused(
    session: Session, app: Flask, key: Any, file: Any
) -> None:
    dataset_id = ensure_dataset(session, ensure_tenant(session, "ours"), "manuals")
    with pytest.raises(InvalidRequest):
        submit_documents(session, app.extensions["redis"], dataset_id, [(key, file)])


def test_what_is_no_url_is_refused(session: Session, app: Flask) -> None:
    dataset_id = ensure_dataset(session, ensure_tenant(session, "ours"), "manuals")
    nothing: Any = None
    with pytest.raises(UnusableUrl, match="text, not NoneType"):
        submit_urls(session, app.extensions["redis"], dataset_id, [nothing])
    with pytest.raises(InvalidRequest, match="is not a UUID"):
        sync_documents(session, app.extensions["redis"], dataset_id, ["a.html"])


def test_a_name_that_no_row_can_have_is_refused(session: Session) -> None:
    tenant_id = ensure_tenant(session, "ours")
    names: list[Any] = ["", " ", None, "a\0b", "\ud800", "a" * 256]
    for name in names:
        with pytest.raises(InvalidRequest, match="name"):
            ensure_tenant(session, name)
        with pytest.raises(InvalidRequest, match="name"):
            ensure_dataset(session, tenant_id, name)


def test_what_is_no_text_of_a_segment_is_refused(app: Flask, session: Session) -> None:
    document_id = Book(app, session, SHAPES["text"]).document_id
    nothing: Any = None
    for wrong in (None, 5, b"text"):
        given: Any = wrong
        with pytest.raises(InvalidRequest, match="the content is text"):
            create_segment(session, document_id, given)
        with pytest.raises(InvalidRequest, match="a keyword is text"):
            create_segment(session, document_id, "A lamp.", keywords=[given])
    with pytest.raises(InvalidRequest, match="store it first"):
        import_segments(session, document_id, nothing)
    made = create_segment(session, str(document_id), "A lamp.")
    assert update_segment(session, str(made), "Two lamps.") == made
    assert disable_segments(session, [str(made), made]) == [made]


def test_messages_whose_lists_are_none_are_refused() -> None:
    one = str(uuid4())
    for wrong in (5, "nope", ["nope"], {"a": 1}):
        given: Any = wrong
        with pytest.raises(InvalidRequest):
            document_indexing_task(one, given)
        with pytest.raises(InvalidRequest):
            delete_segment_from_index_task(given, one, one)
