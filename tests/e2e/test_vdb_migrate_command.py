"""Vectors moved by the command a user types: by a real worker, and without one."""

import json
import signal
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.models import db
from tests.fixtures.application import Reader, Submit
from tests.fixtures.commands import (
    COMMAND_SECONDS,
    RAG_WORKER,
    StartCommand,
    rag_worker,
    start_command,
)
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker

__all__ = ["start_command"]

MOVE = ("vdb-migrate", "--dataset", "manuals", "--tenant", "acme")
TO_QDRANT = (*MOVE, "--to-store", "qdrant", "--yes")


@pytest.fixture
def qdrant(tmp_path: Path) -> dict[str, str]:
    return {"QDRANT_PATH": str(tmp_path / "qdrant")}


def vectors(session: Session) -> int:
    session.rollback()
    return session.scalar(text("SELECT count(*) FROM segment_vectors")) or 0


def store(session: Session) -> str | None:
    session.rollback()
    return session.scalar(text("SELECT vector_store FROM datasets"))


def search(number: int, **variables: str) -> str:
    question = f"gull number {number}"
    place = ("--dataset", "manuals", "--tenant", "acme", "--method", "vector", "--limit", "1")
    return rag_worker("search", question, *place, **variables).out


def gulls(number: int) -> dict[str, bytes]:
    return {f"{n}.txt": f"The gull number {n} follows the boat.".encode() for n in range(number)}


def test_it_works_without_a_worker_and_can_be_called_again(
    session: Session,
    dataset_id: object,
    submit: Submit,
    reader: Reader,
    start_worker: StartWorker,
    qdrant: dict[str, str],
) -> None:
    submissions = submit(gulls(30), announce=True)
    worker = start_worker("threads", 2)
    reader.await_completed(*(one.document_id for one in submissions))
    worker.terminate()
    found = search(7)

    trial = rag_worker(*TO_QDRANT, "--dry-run", **qdrant)
    assert trial.code == 0
    assert trial.out.startswith("acme/manuals: pgvector → qdrant, wordllama/l2_supercat_256; ")
    assert "30 documents, 30 segments to be copied" in trial.out
    assert vectors(session) == 30

    moved = rag_worker(*TO_QDRANT, "--here", "--json", **qdrant)
    assert moved.code == 0, moved.err
    (said,) = moved.json()["datasets"]
    assert (said["status"], said["copied"], said["verified"], said["vectors"]) == (
        "completed",
        True,
        30,
        30,
    )
    audited = json.loads(moved.err.splitlines()[-1])
    assert (audited["action"], audited["command"]) == ("audit", "vdb-migrate")
    assert (store(session), vectors(session)) == ("qdrant", 0)
    assert search(7, **qdrant) == found

    again = rag_worker(*TO_QDRANT, "--here", **qdrant)
    assert (again.code, "nothing to do" in again.out) == (0, True)
    back = rag_worker(*MOVE, "--to-store", "pgvector", "--yes", "--here", **qdrant)
    assert back.code == 0, back.err
    assert (store(session), vectors(session)) == ("pgvector", 30)
    assert search(7) == found


def test_a_killed_worker_and_a_killed_command_are_gone_on_after(
    session: Session,
    dataset_id: object,
    submit: Submit,
    reader: Reader,
    start_worker: StartWorker,
    start_command: StartCommand,
    qdrant: dict[str, str],
) -> None:
    submissions = submit(gulls(64), announce=True)
    worker = start_worker("threads", 2, DELIVERY_LEASE_SECONDS="5", **qdrant)
    reader.await_completed(*(one.document_id for one in submissions))
    found = search(7)

    def moved() -> int:
        session.rollback()
        done = text("SELECT count(*) FROM index_build_documents WHERE status = 'completed'")
        return session.scalar(done) or 0

    with Session(db.engine) as another:
        # A document that is locked cannot be moved: it is not over before the worker is killed.
        lock = text("SELECT id FROM documents WHERE id = :id FOR NO KEY UPDATE")
        another.execute(lock, {"id": submissions[-1].document_id})
        command = start_command([RAG_WORKER, *TO_QDRANT, "--batch", "1"], **qdrant)
        eventually(lambda: moved() > 5)
        worker.kill()
        command.end(signal.SIGKILL)
    assert store(session) == "pgvector"
    assert search(7) == found

    again = start_command([RAG_WORKER, *TO_QDRANT, "--timeout", "300"], **qdrant)
    again.await_output("is being moved already, asked for by")
    start_worker("threads", 2, DELIVERY_LEASE_SECONDS="5", SWEEP_SECONDS="1", **qdrant)
    assert again.process.wait(COMMAND_SECONDS) == 0, again.output()
    assert "64 documents with 64 vectors copied and verified" in again.output()
    assert store(session) == "qdrant"
    eventually(lambda: vectors(session) == 0)


def test_what_cannot_be_done_is_said_in_a_line(
    session: Session, dataset_id: object, qdrant: dict[str, str]
) -> None:
    line = rag_worker(*TO_QDRANT).failed_in_one_line(3)
    assert "set QDRANT_URL" in line
    away = rag_worker(*TO_QDRANT, QDRANT_URL="http://127.0.0.1:1")
    assert "Qdrant does not answer" in away.failed_in_one_line(5)
    nobody = rag_worker("vdb-migrate", "--tenant", "nobody", "--to-store", "qdrant", **qdrant)
    assert "there is no tenant 'nobody'" in nobody.failed_in_one_line(4)
    other = rag_worker(*MOVE, "--to-model", "wordllama/other", "--yes", **qdrant)
    assert "wordllama has no model 'other'" in other.failed_in_one_line(4)
    for wrong in ((), ("--all", "--dataset", "x", "--to-store", "qdrant"), ("--all",)):
        assert rag_worker("vdb-migrate", *wrong).code == 2
    unasked = rag_worker(*TO_QDRANT[:-1], **qdrant)
    assert (unasked.code, "Aborted" in unasked.err) == (1, True)
    late = rag_worker(*TO_QDRANT, "--timeout", "0", **qdrant)
    assert (late.code, "not ended in time" in late.out) == (1, True)
