"""Update, duplicate, retry and recover: twice, late, interrupted at any stage, robbed of the lease.

At every moment search sees the old version whole or the new one whole.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask import Flask
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from shared.errors import LeaseLost, LimitExceeded, ServiceUnavailable, SubjectGone
from shared.models import (
    Dataset,
    Document,
    DocumentSegment,
    OutboxMessage,
    SegmentKeywords,
    SegmentVector,
    db,
)
from shared.queueing import guard
from shared.submitting import reindexing
from shared.submitting.control import pause_documents
from shared.submitting.files import StoredFile, store_file, upload_files
from shared.submitting.removing import delete_documents
from tests.fixtures.application import Submit
from tests.fixtures.removals import clean_messages, counts
from tests.integration.test_indexing_faults import ObservedEmbedder
from worker import wiring
from worker.services.dataset.indexing import index_document
from worker.services.dataset.needs import IndexingNeeds
from worker.services.dataset.retrieval import search
from worker.stores.pgvector import PgVectorStore
from worker.stores.vector_stores import VectorStores
from worker.tasks import dataset as tasks
from worker.wiring import indexing_needs, retrieval_needs

OLD = b"The lighthouse lamp turns once in twelve seconds. " * 200
NEW = b"The fog horn sounds twice a minute in thick weather. " * 200
NAMES = {
    "update": "document_indexing_update_task",
    "duplicate": "duplicate_document_indexing_task",
    "retry": "retry_document_indexing_task",
    "recover": "recover_document_indexing_task",
}


@dataclass
class Place:
    """A document in its first version, and what is to be done with it."""

    app: Flask
    session: Session
    submit: Submit
    dataset_id: UUID
    document_id: UUID

    def store(self, name: str, content: bytes) -> StoredFile:
        tenant_id = self.session.get_one(Dataset, self.dataset_id).tenant_id
        storage = self.app.extensions["storage"]
        return store_file(storage, tenant_id, name, io.BytesIO(content))

    def free_guard(self) -> None:
        for version in range(1, 5):
            guard.release(self.app.extensions["redis"], self.document_id, version)

    def message(self, name: str) -> tuple[UUID, list[Any]]:
        """The message that a producer wrote, and takes with it."""
        query = select(OutboxMessage).where(OutboxMessage.task.endswith("." + name))
        (found,) = self.session.scalars(query)
        return found.id, found.args

    def row(self) -> tuple[str, int, int | None, bool, int]:
        """Status, newest version, active version, whether it is leased, its segments."""
        self.session.rollback()
        one = self.session.get_one(Document, self.document_id, populate_existing=True)
        leased = one.lease_expires_at is not None
        return (
            one.indexing_status,
            one.index_version,
            one.active_version,
            leased,
            one.total_segments,
        )

    def content(self) -> tuple[dict[int, list[int]], int, int]:
        """The positions of each version; vectors and keywords."""
        self.session.rollback()
        segments: dict[int, list[int]] = {}
        for row in self.session.execute(
            select(DocumentSegment.version, DocumentSegment.position)
            .where(DocumentSegment.document_id == self.document_id)
            .order_by(DocumentSegment.version, DocumentSegment.position)
        ):
            segments.setdefault(row.version, []).append(row.position)
        others = [
            self.session.scalar(select(func.count()).where(kind.document_id == self.document_id))
            for kind in (SegmentVector, SegmentKeywords)
        ]
        return segments, others[0] or 0, others[1] or 0

    def found(self) -> str:
        """What search says: ``lamp`` or ``horn``."""
        results = search(self.dataset_id, "lamp or horn", retrieval_needs())
        words = {"lamp" if "lamp" in one.content else "horn" for one in results}
        assert len(results) > 1
        (word,) = words
        return word


def prepared(name: str, place: Place) -> tuple[UUID, list[Any]]:
    """A message, with what a producer does beforehand."""
    session, redis = place.session, place.app.extensions["redis"]
    ids = [place.document_id]
    if name == "update":
        file = place.store("lamp.txt", NEW)
        reindexing.update_document(session, place.document_id, file=file, redis=redis)
    elif name == "duplicate":  # as one does who knows nothing of producer calls
        file = place.store("lamp.txt", NEW)
        tenant_id = session.get_one(Dataset, place.dataset_id).tenant_id
        uploads = upload_files(session, tenant_id, [file])
        change = {"upload_file_id": uploads[file.sha256, file.name]}
        session.execute(update(Document).values(change))
        session.commit()
        return uuid4(), [str(place.dataset_id), [str(place.document_id)]]
    else:
        place.submit({"lamp.txt": NEW})
        if name == "retry":
            needs = replace(indexing_needs(), max_segments=1)
            with pytest.raises(LimitExceeded):
                index_document(place.document_id, place.dataset_id, needs)
            reindexing.retry_documents(session, ids, redis=redis)
        else:
            pause_documents(session, ids, redis=redis)
            session.commit()
            return uuid4(), [str(place.dataset_id), str(place.document_id)]
    session.commit()
    return place.message(NAMES[name])


def run(name: str, message: tuple[UUID, list[Any]]) -> None:
    message_id, arguments = message
    task = getattr(tasks, NAMES[name])
    task.push_request(id=str(message_id), called_directly=True)
    try:
        task.run(*arguments)
    finally:
        task.pop_request()


@pytest.fixture
def place(app: Flask, session: Session, dataset_id: UUID, submit: Submit) -> Place:
    (one,) = submit({"lamp.txt": OLD})
    index_document(one.document_id, dataset_id, indexing_needs())
    return Place(app, session, submit, dataset_id, one.document_id)


def whole(place: Place) -> None:
    """The new version is complete, and nothing else is there."""
    status, newest, active, leased, number = place.row()
    assert (status, leased) == ("completed", False)
    assert active == newest
    assert number > 5
    assert place.content() == ({newest: list(range(number))}, number, number)
    assert place.found() == "horn"
    assert not list(place.app.extensions["redis"].scan_iter("document_*_indexing"))


tasks_by_name = pytest.mark.parametrize("name", list(NAMES))


@tasks_by_name
def test_once_and_twice(name: str, place: Place) -> None:
    before = place.content()
    message = prepared(name, place)
    assert place.content()[0][1] == before[0][1]
    assert place.found() == "lamp"

    run(name, message)
    whole(place)
    first = place.row(), place.content()

    run(name, message)
    assert (place.row(), place.content()) == first


@tasks_by_name
def test_after_the_deletion_nothing_is_written(name: str, place: Place) -> None:
    message = prepared(name, place)
    delete_documents(place.session, [place.document_id])
    place.session.commit()

    with pytest.raises(SubjectGone):
        run(name, message)

    (cleaning,) = clean_messages()
    getattr(tasks, cleaning.task.rpartition(".")[2])(*cleaning.args)
    assert counts(place.document_id) == (0, 0, 0)
    assert place.content() == ({}, 0, 0)


#: While it writes it holds the row: nobody can claim it meanwhile.
INTERRUPTIONS = [
    *((stage, "robbed") for stage in ("reading", "embedding")),
    *(
        (stage, fault)
        for stage in ("reading", "embedding", "the first write", "the last write")
        for fault in ("a server away", "killed")
    ),
]


class Death(BaseException):
    """A process that ends here runs nothing more."""


class ObservedFiles:
    def __init__(self, before: Callable[[], None]) -> None:
        self._before, self._real = before, indexing_needs().files

    def open(self, key: str) -> Any:
        self._before()
        return self._real.open(key)


class ObservedStore(PgVectorStore):
    def __init__(self, before: Callable[[], None]) -> None:
        self._before = before

    def upsert(self, *arguments: Any) -> None:
        super().upsert(*arguments)
        self._before()


def observed(stage: str, happen: Callable[[], None]) -> IndexingNeeds:
    """The needs of a run in which something happens at a stage."""
    calls = iter(range(1000))

    def at(number: int) -> Callable[[], None]:
        def look() -> None:
            if next(calls) == number:
                happen()

        return look

    needs = replace(indexing_needs(), batch_segments=4)
    if stage == "reading":
        return replace(needs, files=ObservedFiles(at(0)))
    if stage == "embedding":
        embedder = ObservedEmbedder(at(1))
        return replace(needs, embedders=lambda *_: embedder)
    return replace(
        needs, vectors=VectorStores(ObservedStore(at(2 if stage == "the last write" else 0)))
    )


@tasks_by_name
@pytest.mark.parametrize(("stage", "fault"), INTERRUPTIONS)
def test_interrupted_at_any_stage(
    name: str, stage: str, fault: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = prepared(name, place)

    def happen() -> None:
        if fault == "a server away":
            raise ServiceUnavailable("503")
        if fault == "killed":
            raise Death
        with Session(db.engine) as thief, thief.begin():
            thief.execute(text("SET LOCAL lock_timeout = '200ms'"))
            thief.execute(text("UPDATE documents SET lease_token = lease_token + 1"))

    interrupted = observed(stage, happen)
    with monkeypatch.context() as patched:
        patched.setattr(wiring, "indexing_needs", lambda: interrupted)
        with pytest.raises((ServiceUnavailable, Death, LeaseLost)):
            run(name, message)

    # Not yet whole, so the old one serves, as it was.
    status, newest, active, _, _ = place.row()
    assert status not in {"completed", "error"}
    assert (active, newest > 1) == (1, True)
    assert place.content()[0][1] == list(range(9))
    assert place.found() == "lamp"

    # What held it is gone: its lease runs out.
    place.session.execute(text("UPDATE documents SET lease_expires_at = now() - interval '1 s'"))
    place.session.commit()
    run(name, message)
    place.free_guard()
    whole(place)


def test_one_whose_status_was_set_by_sql_alone_becomes_a_new_version(place: Place) -> None:
    place.session.execute(text("UPDATE documents SET indexing_status = 'waiting'"))
    place.session.commit()
    assert place.row()[:3] == ("waiting", 2, 1)

    place.session.execute(text("UPDATE documents SET fingerprint = NULL"))
    place.session.commit()
    index_document(place.document_id, place.dataset_id, indexing_needs())

    assert place.row()[:3] == ("completed", 2, 2)
    assert set(place.content()[0]) == {2}
