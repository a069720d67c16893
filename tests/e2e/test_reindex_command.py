"""A dataset's index changed by the commands a user types, by a real worker."""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from tests.fixtures.application import Reader, Submit
from tests.fixtures.commands import rag_worker
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker

PLACE = ("--tenant", "acme")


def generations(session: Session) -> list[int]:
    session.rollback()
    return list(session.scalars(text("SELECT DISTINCT generation FROM segment_vectors")))


def test_an_index_is_rebuilt_and_removed(
    session: Session, dataset_id: UUID, submit: Submit, reader: Reader, start_worker: StartWorker
) -> None:
    files = {f"{n}.txt": f"The gull number {n} follows the boat.".encode() for n in range(30)}
    submissions = submit(files, announce=True)
    start_worker("threads", 2)
    reader.await_end(*(one.document_id for one in submissions))

    rebuilt = rag_worker("datasets", "reindex", "manuals", *PLACE, "--json")

    assert rebuilt.code == 0, rebuilt.err
    said = rebuilt.json()
    assert (said["action"], said["status"], said["completed"]) == ("add", "completed", 30)
    eventually(lambda: generations(session) == [1])
    shown = rag_worker("status", "--dataset", "manuals", *PLACE).out
    assert "index_build: add wordllama/l2_supercat_256 completed, 30 of 30 documents" in shown
    found = rag_worker("search", "gull number 7", "--dataset", "manuals", *PLACE)
    assert "The gull number 7" in found.out

    refused = rag_worker(
        "datasets", "reindex", "manuals", *PLACE, "--embedding-model", "no such model"
    )
    assert refused.code == 4
    assert "no such model" in refused.err

    removed = rag_worker("datasets", "remove-index", "manuals", *PLACE)
    assert removed.code == 0
    assert removed.out.startswith("remove completed")
    eventually(lambda: generations(session) == [])
    found = rag_worker("search", "gull number 7", "--dataset", "manuals", *PLACE)
    assert "The gull number 7" in found.out
    again = rag_worker("datasets", "remove-index", "manuals", *PLACE)
    assert again.code == 4
    assert "has no vectors to remove" in again.err
