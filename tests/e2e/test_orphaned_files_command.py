"""Files without rows, and rows without files, by the command a user types."""

import json
import os
import time
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.models import db
from tests.fixtures.application import Reader, Submit
from tests.fixtures.commands import rag_worker
from worker.services.dataset.indexing import index_document
from worker.wiring import indexing_needs

HOUR = 3600.0


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    return tmp_path / "storage"


def put(storage: Path, key: str, hours: float) -> Path:
    path = storage / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"left")
    age(path, hours)
    return path


def age(path: Path, hours: float) -> None:
    os.utime(path, (time.time() - hours * HOUR,) * 2)


def stored(storage: Path, session: Session, name: str) -> Path:
    query = text("SELECT storage_key FROM upload_files WHERE name = :name")
    return storage / str(session.scalar(query, {"name": name}))


def test_orphans_go_and_nothing_that_somebody_may_need(
    storage: Path, session: Session, submit: Submit, reader: Reader
) -> None:
    used, lost = submit({"used.txt": b"in use", "lost.txt": b"lost"})
    age(stored(storage, session, "used.txt"), 99)
    gone = stored(storage, session, "lost.txt")
    gone.unlink()
    tenant = session.scalar(text("SELECT tenant_id FROM datasets"))
    folder = f"upload_files/{tenant}"
    orphans = [put(storage, f"{folder}/{n:02x}/{n:02x}{'a' * 62}", 25) for n in range(20)]
    young = put(storage, f"{folder}/ff/{'f' * 64}", 23)
    draft = put(storage, f"{folder}/drafts/{uuid4()}", 25)
    uploading = put(storage, f"{folder}/drafts/{uuid4()}", 0)
    spans = put(storage, f"traces/{tenant}/{uuid4()}", 25)
    foreign = put(storage, "exports/report.csv", 800)

    trial = rag_worker("clear-orphaned-files", "--dry-run", "--json")
    assert trial.code == 0, trial.err
    said = trial.json()
    assert (said["found"], said["removed"], said["missing"]) == (22, 0, 1)
    assert [(one["name"], one["kind"]) for one in said["rows"]] == [("lost.txt", "upload_file")]
    assert all(one.exists() for one in (*orphans, draft, spans))
    unasked = rag_worker("clear-orphaned-files")
    assert (unasked.code, "Aborted" in unasked.err) == (1, True)

    done = rag_worker("clear-orphaned-files", "--yes")
    assert done.code == 0, done.err
    assert done.out.splitlines()[-1] == "22 files removed, 1 rows without their file"
    assert f"removed  {folder}/drafts/{draft.name}" in done.out
    assert f"missing  {gone.relative_to(storage)}, of upload_file" in done.out
    assert json.loads(done.err.splitlines()[-1])["command"] == "clear-orphaned-files"
    assert not any(one.exists() for one in (*orphans, draft, spans))
    assert all(one.exists() for one in (young, uploading, foreign))
    index_document(used.document_id, reader.document(used.document_id).dataset_id, indexing_needs())
    assert lost.document_id

    again = rag_worker("clear-orphaned-files", "--yes", "--json").json()
    assert (again["found"], again["missing"]) == (0, 1)
    older = rag_worker("clear-orphaned-files", "--yes", "--older-than", "22h")
    assert f"removed  {young.relative_to(storage)}" in older.out


def test_a_file_whose_row_is_written_later_is_found_all_the_same(
    storage: Path, session: Session, submit: Submit, reader: Reader
) -> None:
    (one,) = submit({"late.txt": b"The harbour gate opens at noon."})
    age(stored(storage, session, "late.txt"), 99)
    # The file is stored, its transaction is still to come.
    rows = session.execute(text("SELECT * FROM upload_files")).mappings().all()
    session.execute(text("UPDATE upload_files SET storage_key = 'elsewhere'"))
    session.commit()
    cleared = rag_worker("clear-orphaned-files", "--yes", "--json").json()
    assert (cleared["found"], cleared["missing"]) == (1, 1)
    session.execute(
        text("UPDATE upload_files SET storage_key = :key"), {"key": rows[0]["storage_key"]}
    )
    session.commit()

    index_document(one.document_id, reader.document(one.document_id).dataset_id, indexing_needs())
    with db.engine.begin() as connection:
        connection.execute(text("UPDATE removals SET due_at = now()"))
    after = rag_worker("clear-orphaned-files", "--yes", "--json").json()
    assert (after["found"], after["missing"]) == (0, 0)
    assert stored(storage, session, "late.txt").exists()


def test_a_second_one_is_told_who_is_at_it(session: Session, storage: Path) -> None:
    put(storage, f"upload_files/{uuid4()}/ab/{'a' * 64}", 99)
    assert rag_worker("clear-orphaned-files", "--dry-run").code == 0
    session.execute(
        text(
            "UPDATE scheduled_runs SET lease_owner = 'sea/17', lease_token = lease_token + 1,"
            " lease_expires_at = now() + interval '1 minute' WHERE name = 'clear_orphaned_files'"
        )
    )
    session.commit()
    line = rag_worker("clear-orphaned-files", "--yes").failed_in_one_line(4)
    assert "sea/17 is at it already" in line
    wrong = rag_worker("clear-orphaned-files", "--older-than", "soon")
    assert (wrong.code, "write 90s, 30m, 24h or 7d" in wrong.err) == (2, True)
