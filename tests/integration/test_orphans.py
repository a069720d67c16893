"""Stored files and vectors that no row names, and rows that lack vectors."""

import os
import time
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.app_factory import create_app
from shared.contract import CLEAN_FILES, CLEAN_ORPHANED_FILES, RECONCILE_VECTORS
from shared.models import Document, ScheduledRun, db
from tests.fixtures.application import Reader, Submit
from worker import wiring
from worker.delivery.alone import run_id
from worker.services.dataset.indexing import index_document
from worker.wiring import remove_unused_files
from worker.wiring.maintenance import maintain

TENANT = "upload_files/11111111-1111-1111-1111-111111111111"


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    return tmp_path / "storage"


def put(storage: Path, key: str, days: float) -> Path:
    path = storage / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"left")
    then = time.time() - days * 86400
    os.utime(path, (then, then))
    return path


def last_run(name: str) -> ScheduledRun:
    with Session(db.engine, expire_on_commit=False) as session:
        return session.get_one(ScheduledRun, run_id(name))


def due() -> None:
    with db.engine.begin() as connection:
        connection.execute(text("UPDATE removals SET due_at = now() - interval '1 s'"))


def age_all(storage: Path) -> None:
    for path in storage.rglob("*"):
        if path.is_file():
            os.utime(path, (time.time() - 30 * 86400,) * 2)


def test_orphans_are_counted_and_only_deleted_when_somebody_says_so(
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    storage: Path,
    submit: Submit,
    session: Session,
    reader: Reader,
) -> None:
    document_id = submit({"used.txt": b"in use"})[0].document_id
    age_all(storage)
    orphan = put(storage, f"{TENANT}/ab/abcd", days=8)
    fresh = put(storage, f"{TENANT}/ab/abce", days=6)
    draft = put(storage, f"{TENANT}/drafts/{uuid4()}", days=8)
    aside = put(storage, f"removed/{TENANT}/cd/cdef", days=8)
    foreign = put(storage, "exports/report.csv", days=800)

    maintain(CLEAN_ORPHANED_FILES)
    assert last_run("clean_orphaned_files").total == 3
    assert all(one.exists() for one in (orphan, fresh, draft, aside, foreign))

    monkeypatch.setenv("STORAGE_ORPHANS_DELETE", "true")
    with create_app().app_context():
        maintain(CLEAN_ORPHANED_FILES)
        remove_unused_files()
        assert not draft.exists()
        assert not aside.exists()
        assert not orphan.exists()
        put_aside = storage / "removed" / orphan.relative_to(storage)
        assert put_aside.exists(), "whoever submits it at this moment still finds it"
        maintain(CLEAN_ORPHANED_FILES)
        due()
        remove_unused_files()
        assert not put_aside.exists()
        db.engine.dispose()
    assert fresh.exists()
    assert foreign.exists()
    index_document(document_id, reader.document(document_id).dataset_id, wiring.indexing_needs())
    assert last_run("clean_orphaned_files").position is None
    assert CLEAN_FILES.ids == ()


@pytest.fixture
def document(submit: Submit, dataset_id: UUID, reader: Reader) -> Document:
    """A completed document of several segments."""
    content = "\n\n".join(f"# Part {n}\n\n" + f"Word {n} of it. " * 120 for n in range(4))
    document_id = submit({"a.md": content.encode()})[0].document_id
    index_document(document_id, dataset_id, wiring.indexing_needs())
    return reader.document(document_id)


def count(query: str) -> int:
    with db.engine.connect() as connection:
        return int(connection.scalar(text(query)) or 0)


def change(statement: str, **values: object) -> None:
    with db.engine.begin() as connection:
        connection.execute(text(statement), values)


VECTORS = "SELECT count(*) FROM segment_vectors"
# A trigger refuses them where documents are missing: a restored table comes without.
COPY = """
    INSERT INTO segment_vectors (id, dataset_id, document_id, version, generation, embedding)
    SELECT :id, dataset_id, document_id, version, 0, embedding FROM segment_vectors LIMIT 1
"""


def leave(document_id: UUID, version: int) -> None:
    """A vector that no segment stands for."""
    vector = uuid4()
    change(COPY, id=vector)
    change(
        "UPDATE segment_vectors SET document_id = :document, version = :version WHERE id = :id",
        id=vector,
        document=document_id,
        version=version,
    )


def test_vectors_without_rows_go_and_all_others_stay(app: Flask, document: Document) -> None:
    vectors = count(VECTORS)
    assert vectors > 1
    maintain(RECONCILE_VECTORS)
    assert (count(VECTORS), last_run("reconcile_vectors").total) == (vectors, 0)

    leave(uuid4(), 1)  # of no document
    leave(document.id, 7)  # of no version
    leave(document.id, 1)  # of no segment
    removed = uuid4()
    leave(removed, 1)
    change(
        "INSERT INTO removals (kind, tenant_id, dataset_id, document_id) "
        "VALUES ('document', :tenant, :dataset, :document)",
        tenant=document.tenant_id,
        dataset=document.dataset_id,
        document=removed,
    )
    maintain(RECONCILE_VECTORS)

    assert count(VECTORS) == vectors + 1, "what is being cleaned up already is left to that"
    assert last_run("reconcile_vectors").total == 3


def test_rows_without_vectors_get_a_new_index_of_the_same_model(
    app: Flask, document: Document, session: Session
) -> None:
    change(
        "DELETE FROM segment_vectors WHERE id = (SELECT min(id::text)::uuid FROM segment_vectors)"
    )

    maintain(RECONCILE_VECTORS)
    maintain(RECONCILE_VECTORS)

    assert last_run("reconcile_vectors").total == 1, "the build under way will make it"
    builds = session.execute(
        text("SELECT action, status, embedding_model FROM dataset_index_builds")
    )
    assert builds.all() == [("update", "running", "l2_supercat_256")]


def test_children_are_found_in_their_parents_place(app: Flask, document: Document) -> None:
    change("UPDATE documents SET doc_form = 'hierarchical_model'")
    change("DELETE FROM segment_vectors")
    maintain(RECONCILE_VECTORS)
    assert last_run("reconcile_vectors").total == 0, "a parent without children lacks nothing"
