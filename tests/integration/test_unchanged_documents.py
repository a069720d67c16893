"""A re-index of what has not changed ends at once; whatever did change is made, as ever.

"At once" is seen by the rows themselves: not one is written, by PostgreSQL's own marks.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask import Flask
from qdrant_client import QdrantClient
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from shared.errors import IndexReplaced, LeaseLost, LimitExceeded, ServiceUnavailable
from shared.models import Dataset, db
from shared.submitting import reindexing
from shared.submitting.control import pause_documents
from shared.submitting.files import store_file
from shared.submitting.process_rules import set_dataset_rule
from shared.submitting.removing import delete_documents
from shared.submitting.segments import (
    create_segment,
    delete_segments,
    disable_segments,
    import_segments,
    update_segment,
)
from tests.fixtures.application import Submit
from tests.integration.form_documents import CountingEmbedder
from tests.integration.form_documents import Place as FormPlace
from worker.services.dataset import fingerprints
from worker.services.dataset.indexing import index_document
from worker.services.dataset.needs import IndexingNeeds
from worker.services.dataset.retrieval import search
from worker.services.dataset.segment_edits import index_segment
from worker.services.dataset.segment_imports import run_import
from worker.stores.pgvector import PgVectorStore
from worker.stores.qdrant import QdrantVectorStore
from worker.stores.vector_stores import VectorStores
from worker.tasks import dataset as tasks
from worker.wiring import indexing_needs, retrieval_needs

OLD = b"The lighthouse lamp turns once in twelve seconds. " * 200
NEW = b"The fog horn sounds twice a minute in thick weather. " * 200
RULE = {"mode": "custom", "rules": {"segmentation": {"separator": ". ", "max_tokens": 60}}}
TABLES = ("document_segments", "segment_vectors", "segment_keywords", "child_chunks")
#: What says when and by whom, and not what.
MOVING = {
    "lease_token",
    "message_id",
    "queued_at",
    "processing_started_at",
    "parsing_completed_at",
    "cleaning_completed_at",
    "splitting_completed_at",
    "completed_at",
    "indexing_latency",
}


def written(document_id: UUID) -> dict[str, list[tuple[Any, ...]]]:
    """Every row that search goes by, with the transaction that wrote it and where it lies."""
    with Session(db.engine) as session:
        return {
            table: sorted(
                map(
                    tuple,
                    session.execute(
                        text(
                            f"SELECT t.ctid::text, t.xmin::text, t::text FROM {table} t "
                            "WHERE document_id = :id"
                        ),
                        {"id": document_id},
                    ),
                )
            )
            for table in TABLES
        }


def row(document_id: UUID) -> dict[str, Any]:
    with Session(db.engine) as session:
        query = text("SELECT * FROM documents WHERE id = :id")
        (found,) = session.execute(query, {"id": document_id}).mappings()
        return {name: value for name, value in found.items() if name not in MOVING}


class Nothing:
    """No file is read, and nothing is embedded."""

    def open(self, key: str) -> Any:
        raise AssertionError("the file was read")

    def __call__(self, *_: Any) -> Any:
        raise AssertionError("an embedder was asked for")


def sparing(**values: Any) -> IndexingNeeds:
    return replace(indexing_needs(), files=Nothing(), embedders=Nothing(), **values)


@dataclass
class Place:
    app: Flask
    session: Session
    dataset_id: UUID
    document_id: UUID

    def store(self, content: bytes, name: str = "lamp.txt") -> Any:
        tenant_id = self.session.get_one(Dataset, self.dataset_id).tenant_id
        storage = self.app.extensions["storage"]
        return store_file(storage, tenant_id, name, io.BytesIO(content))

    def execute(self, statement: str, **values: Any) -> None:
        with Session(db.engine) as session, session.begin():
            session.execute(text(statement), {"id": self.document_id, **values})

    def again(self, *, anew: bool = False) -> None:
        """A producer wants it indexed again as it is."""
        reindexing.duplicate_documents(self.session, [self.document_id], anew=anew)
        self.session.commit()

    def index(self, needs: IndexingNeeds | None = None) -> None:
        index_document(self.document_id, self.dataset_id, needs or indexing_needs())

    def segments(self) -> list[UUID]:
        query = text("SELECT id FROM document_segments WHERE document_id = :id ORDER BY position")
        with Session(db.engine) as session:
            return list(session.scalars(query, {"id": self.document_id}))

    def is_made_anew(self) -> bool:
        """Index it; whether its rows were written."""
        before, version = written(self.document_id), row(self.document_id)["active_version"]
        self.index()
        after = row(self.document_id)
        assert (after["indexing_status"], after["error"]) == ("completed", None)
        assert after["index_version"] == after["active_version"]
        assert after["total_segments"] == after["completed_segments"] == len(self.segments())
        is_same = written(self.document_id) == before
        assert is_same == (after["active_version"] == version)
        return not is_same


@pytest.fixture
def place(app: Flask, session: Session, dataset_id: UUID, submit: Submit) -> Place:
    (one,) = submit({"lamp.txt": OLD})
    index_document(one.document_id, dataset_id, indexing_needs())
    return Place(app, session, dataset_id, one.document_id)


def run(place: Place, name: str, message_id: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    """A delivery of a message, in a process that may neither read nor embed."""
    several = name in {"document_indexing_task", "duplicate_document_indexing_task"}
    several |= name == "retry_document_indexing_task"
    subject = [str(place.document_id)] if several else str(place.document_id)
    task = getattr(tasks, name)
    task.push_request(id=str(message_id), called_directly=True)
    needs = sparing()
    try:
        with monkeypatch.context() as patched:
            patched.setattr("worker.wiring.indexing_needs", lambda: needs)
            task.run(str(place.dataset_id), subject)
    finally:
        task.pop_request()


#: What a producer or a person does, and the task whose message says so.
WAYS: dict[str, Callable[[Place], object]] = {
    "document_indexing_update_task": lambda place: reindexing.update_document(
        place.session, place.document_id, file=place.store(OLD)
    ),
    "duplicate_document_indexing_task": lambda place: reindexing.duplicate_documents(
        place.session, [place.document_id]
    ),
    "retry_document_indexing_task": lambda place: place.session.execute(
        text("UPDATE documents SET indexing_status = 'error', error = 'x', total_segments = 0")
    ),
    "recover_document_indexing_task": lambda place: (
        reindexing.duplicate_documents(place.session, [place.document_id]),
        pause_documents(place.session, [place.document_id]),
    ),
    "document_indexing_task": lambda place: place.session.execute(
        text("UPDATE documents SET indexing_status = 'waiting'")
    ),
}


@pytest.mark.parametrize("name", list(WAYS))
def test_each_task_leaves_what_is_unchanged(
    name: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis = place.app.extensions["redis"]
    rows, document, message_id = written(place.document_id), row(place.document_id), uuid4()
    WAYS[name](place)
    place.session.commit()
    stream = f"document_{place.document_id}_progress"
    redis.delete(stream)

    run(place, name, message_id, monkeypatch)

    assert written(place.document_id) == rows
    assert row(place.document_id) == document
    ((_, shown),) = redis.xrange(stream)
    assert (shown["status"], shown["segments"]) == ("completed", str(document["total_segments"]))
    assert shown["tokens"] == str(document["tokens"])
    assert not list(redis.scan_iter("document_*_indexing"))

    run(place, name, message_id, monkeypatch)
    assert (written(place.document_id), row(place.document_id)) == (rows, document)


def test_its_times_are_those_of_the_look(place: Place) -> None:
    place.again()
    place.index(sparing())
    with Session(db.engine) as session:
        (times,) = session.execute(
            text(
                "SELECT processing_started_at, parsing_completed_at, cleaning_completed_at, "
                "splitting_completed_at, completed_at, stopped_at FROM documents"
            )
        )
    assert sorted(times[:5]) == list(times[:5])
    assert times[5] is None


#: What makes it another document than the one that serves.
CHANGES: dict[str, Callable[[Place], object]] = {
    "its file": lambda place: reindexing.update_document(
        place.session, place.document_id, file=place.store(NEW)
    ),
    "its ending": lambda place: reindexing.update_document(
        place.session, place.document_id, file=place.store(OLD, "lamp.md")
    ),
    "its rule": lambda place: reindexing.update_document(
        place.session, place.document_id, rule=RULE
    ),
    "the dataset's rule": lambda place: set_dataset_rule(place.session, place.dataset_id, RULE),
    "the index": lambda place: place.execute("UPDATE datasets SET index_generation = 1"),
    "not known": lambda place: place.execute("UPDATE documents SET fingerprint = NULL"),
    "made by an old release": lambda place: place.execute(
        """
        WITH moved AS (UPDATE document_segments SET version = 2),
             with_it AS (UPDATE segment_vectors SET version = 2),
             and_this AS (UPDATE segment_keywords SET version = 2)
        UPDATE documents SET active_version = 2, index_version = 2
        """
    ),
    "a segment lost": lambda place: place.execute(
        "DELETE FROM document_segments WHERE position = 2"
    ),
    "a segment changed by SQL": lambda place: place.execute(
        "UPDATE document_segments SET content = 'x', index_node_hash = 'y' WHERE position = 2"
    ),
    "a vector lost": lambda place: place.execute(
        "DELETE FROM segment_vectors WHERE id = (SELECT min(id::text)::uuid FROM segment_vectors)"
    ),
    "a segment's words lost": lambda place: place.execute("DELETE FROM segment_keywords"),
}


@pytest.mark.parametrize("what", list(CHANGES))
def test_what_changed_is_made(what: str, place: Place) -> None:
    CHANGES[what](place)
    place.session.commit()
    if row(place.document_id)["indexing_status"] == "completed":
        place.again()
    assert place.is_made_anew()
    place.again()
    assert not place.is_made_anew()


def test_settings_libraries_and_our_own_code_count(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.again()
    place.index(replace(indexing_needs(), keywords=False))
    assert row(place.document_id)["keyword_segments"] is None
    place.again()
    assert place.is_made_anew()

    monkeypatch.setattr(fingerprints, "PIPELINE", fingerprints.PIPELINE + 1)
    place.again()
    assert place.is_made_anew()
    place.again()
    assert not place.is_made_anew()

    monkeypatch.setattr(fingerprints, "_library_versions", lambda: ("another",))
    place.again()
    assert place.is_made_anew()


def test_another_model_makes_it_anew(place: Place) -> None:
    place.execute("UPDATE datasets SET embedding_model = 'another'")
    place.again()
    embedder = CountingEmbedder()
    place.index(replace(indexing_needs(), embedders=lambda *_: embedder))
    assert row(place.document_id)["active_version"] == 2


def test_whoever_wants_it_anew_gets_it_anew(place: Place) -> None:
    place.again(anew=True)
    assert place.is_made_anew()
    reindexing.update_document(place.session, place.document_id, file=place.store(OLD), anew=True)
    place.session.commit()
    assert place.is_made_anew()
    place.execute("UPDATE documents SET indexing_status = 'error', error = 'x'")
    reindexing.retry_documents(place.session, [place.document_id], anew=True)
    place.session.commit()
    assert place.is_made_anew()


def test_the_same_rule_in_another_row_changes_nothing(place: Place) -> None:
    set_dataset_rule(place.session, place.dataset_id, RULE)
    place.session.commit()
    place.again()
    assert place.is_made_anew()
    reindexing.update_document(place.session, place.document_id, rule=RULE)
    place.session.commit()
    assert not place.is_made_anew()


def test_a_file_that_failed_and_was_changed_back(place: Place) -> None:
    rows, document = written(place.document_id), row(place.document_id)
    reindexing.update_document(place.session, place.document_id, file=place.store(NEW))
    place.session.commit()
    with pytest.raises(LimitExceeded):
        place.index(replace(indexing_needs(), max_segments=1))
    assert row(place.document_id)["error"] is not None

    reindexing.update_document(place.session, place.document_id, file=place.store(OLD))
    place.session.commit()
    place.index(sparing())

    assert written(place.document_id) == rows
    assert row(place.document_id) == document


#: By hand; the content that search then sees is no longer the file's.
EDITS: dict[str, Callable[[Place], object]] = {
    "created": lambda place: create_segment(place.session, place.document_id, "A heron stands."),
    "changed": lambda place: update_segment(place.session, place.segments()[3], "A heron stands."),
    "given words": lambda place: update_segment(
        place.session, place.segments()[3], keywords=["heron"]
    ),
    "deleted": lambda place: delete_segments(place.session, place.segments()[:1]),
    "imported": lambda place: import_segments(
        place.session, place.document_id, place.store(b"content\nA heron stands.\n", "more.csv")
    ),
}


@pytest.mark.parametrize("is_settled", [True, False])
@pytest.mark.parametrize("what", list(EDITS))
def test_what_was_edited_is_made_as_the_file_says(
    what: str, place: Place, *, is_settled: bool
) -> None:
    before = [one[2] for one in contents(place)]
    EDITS[what](place)
    place.session.commit()
    if is_settled:
        settle(place)
        assert [one[2] for one in contents(place)] != before or what == "given words"
    place.again()
    if what == "imported" and not is_settled:
        place.index()  # the import ends, as it always did: nothing was written by it yet
    else:
        assert place.is_made_anew()
    assert [one[2] for one in contents(place)] == before
    assert {one[3] for one in contents(place)} == {None}


def contents(place: Place) -> list[tuple[Any, ...]]:
    query = text(
        "SELECT version, position, content, keywords FROM document_segments "
        "WHERE document_id = :id ORDER BY position"
    )
    with Session(db.engine) as session:
        return list(map(tuple, session.execute(query, {"id": place.document_id})))


def settle(place: Place) -> None:
    """What workers do about edits and imports."""
    with Session(db.engine) as session:
        edits = list(session.scalars(text("SELECT segment_id FROM segment_edits")))
        imports = list(session.scalars(text("SELECT id FROM segment_imports")))
    for one in edits:
        index_segment(one, indexing_needs())
    for one in imports:
        run_import(one, indexing_needs())


def test_what_was_hidden_by_hand_is_shown_again_as_by_every_re_index(place: Place) -> None:
    hidden = disable_segments(place.session, place.segments()[:2])
    place.session.commit()
    assert len(hidden) == 2
    place.again()

    place.index(sparing())

    query = text("SELECT count(*) FROM document_segments WHERE NOT enabled")
    assert place.session.scalar(query) == 0
    assert row(place.document_id)["active_version"] == 1


class Death(BaseException):
    """A process that ends here runs nothing more."""


class ObservedStore(PgVectorStore):
    """Something happens between the look and the end."""

    def __init__(self, happen: Callable[[], None]) -> None:
        self._happen = happen

    def count(self, *arguments: Any) -> int:
        number = super().count(*arguments)
        self._happen()
        return number


def fail(error: BaseException) -> Callable[[], None]:
    def happen() -> None:
        raise error

    return happen


@pytest.mark.parametrize("error", [Death(), ServiceUnavailable("503")])
def test_one_that_was_stopped_ends_at_the_next_delivery(error: BaseException, place: Place) -> None:
    rows, document = written(place.document_id), row(place.document_id)
    place.again()
    with pytest.raises(type(error)):
        place.index(sparing(vectors=VectorStores(ObservedStore(fail(error)))))
    assert row(place.document_id)["indexing_status"] in {"parsing", "waiting"}
    assert written(place.document_id) == rows

    place.execute("UPDATE documents SET lease_expires_at = now() - interval '1 s'")
    place.index(sparing())

    assert written(place.document_id) == rows
    assert row(place.document_id) == document


#: Between the look and the end, and what the run makes of it.
MEANWHILE: dict[str, tuple[Callable[[Place], object], type[Exception] | None]] = {
    "robbed": (
        lambda place: place.execute("UPDATE documents SET lease_token = lease_token + 1"),
        LeaseLost,
    ),
    "deleted": (lambda place: delete_documents(place.session, [place.document_id]), LeaseLost),
    "paused": (lambda place: pause_documents(place.session, [place.document_id]), LeaseLost),
    "index replaced": (
        lambda place: place.execute("UPDATE datasets SET index_generation = 1"),
        IndexReplaced,
    ),
    "a segment deleted": (
        lambda place: delete_segments(place.session, place.segments()[:1]),
        None,
    ),
}


@pytest.mark.parametrize("what", list(MEANWHILE))
def test_what_happens_meanwhile_is_not_overlooked(what: str, place: Place) -> None:
    change, refusal = MEANWHILE[what]
    place.again()
    before = contents(place)

    def happen() -> None:
        change(place)
        place.session.commit()

    needs = replace(indexing_needs(), vectors=VectorStores(ObservedStore(happen)))
    if refusal is None:
        place.index(needs)
        assert row(place.document_id)["active_version"] == 2
        assert [one[1:] for one in contents(place)] == [one[1:] for one in before]
        return
    with pytest.raises(refusal):
        place.index(needs)
    if what == "deleted":
        return
    assert row(place.document_id)["indexing_status"] != "completed"
    if what == "index replaced":
        assert place.is_made_anew()


FORMS = {
    "hierarchical_model": ("book.md", b"# One\n\n" + OLD + b"\n\n# Two\n\n" + NEW),
    "qa_model": ("pairs.csv", b"question,answer\nWhat turns?,The lamp.\nWhat sounds?,The horn.\n"),
    "economy": ("lamp.txt", OLD),
}


@pytest.mark.parametrize("form", list(FORMS))
def test_documents_of_every_form(form: str, app: Flask, session: Session) -> None:
    technique = "economy" if form == "economy" else None
    place = FormPlace(app, session, "text_model" if technique else form, technique)
    document_id = place.add(*FORMS[form])
    rows, document = written(document_id), row(document_id)
    reindexing.duplicate_documents(session, [document_id])
    session.commit()

    index_document(document_id, place.dataset_id, sparing())

    assert written(document_id) == rows
    assert row(document_id) == document
    if form == "hierarchical_model":
        session.execute(text("DELETE FROM child_chunks WHERE position = 0"))
        reindexing.duplicate_documents(session, [document_id])
        session.commit()
        place.index(document_id)
        assert place.document(document_id).active_version == 2


def test_a_store_outside_of_the_database_is_asked_whether_it_has_the_vectors(
    app: Flask, session: Session, dataset_id: UUID, submit: Submit
) -> None:
    client = QdrantClient(":memory:")
    store = QdrantVectorStore(client, sessionmaker(db.engine), is_local=True)
    needs = replace(indexing_needs(), vectors=VectorStores(store))
    (one,) = submit({"lamp.txt": OLD})
    place = Place(app, session, dataset_id, one.document_id)
    place.index(needs)
    ledger = text("SELECT id, version, token, is_live, swept_at FROM vector_writes ORDER BY id")
    before = session.execute(ledger).all()

    place.again()
    place.index(sparing(vectors=VectorStores(store)))

    session.rollback()
    assert session.execute(ledger).all() == before
    assert store.collect() == 0
    assert row(one.document_id)["active_version"] == 1
    found = search(dataset_id, "lamp", replace(retrieval_needs(), vectors=VectorStores(store)))
    assert found[0].content.startswith("The lighthouse")

    # Without its vectors: made anew.
    client.delete_collection("rag_worker_256")
    place.again()
    place.index(
        replace(
            needs, vectors=VectorStores(QdrantVectorStore(client, store._sessions, is_local=True))
        )
    )
    assert row(one.document_id)["active_version"] == 2
    client.close()
