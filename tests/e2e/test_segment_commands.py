"""Segments by the commands a user types, with a worker that dies in the middle of an import."""

from pathlib import Path
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shared.models import DocumentSegment, SegmentImport
from tests.fixtures.application import Reader, Submit
from tests.fixtures.commands import rag_worker
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker

TEXT = b"The gull follows the boat."
ROWS = 3000


def test_an_import_survives_its_worker_and_segments_are_changed_by_hand(
    tmp_path: Path,
    session: Session,
    submit: Submit,
    reader: Reader,
    start_worker: StartWorker,
) -> None:
    document_id = submit({"a.txt": TEXT}, announce=True)[0].document_id
    short = {"DELIVERY_LEASE_SECONDS": "3", "INDEXING_BATCH_SEGMENTS": "50"}
    worker = start_worker("solo", 1, **short)
    reader.await_end(document_id)
    path = tmp_path / "rows.csv"
    path.write_text("content\n" + "".join(f"Buoy {one} is green.\n" for one in range(ROWS)))

    def imported() -> SegmentImport:
        session.rollback()
        return session.scalars(
            select(SegmentImport).execution_options(populate_existing=True)
        ).one()

    submitted = rag_worker("segments", "import", document_id, path, "--no-wait", "--json").json()
    eventually(lambda: imported().imported_rows >= 50)
    worker.kill()
    assert imported().imported_rows < ROWS
    start_worker("solo", 1, **short)
    eventually(lambda: imported().status == "completed", 60)

    row = imported()
    assert submitted["import_id"] == str(row.id)
    assert (row.imported_rows, row.refused_rows, row.last_row) == (ROWS, 0, ROWS + 1)
    distinct = func.count(DocumentSegment.content.distinct())
    assert session.execute(select(func.count(), distinct)).one() == (ROWS + 1, ROWS + 1)
    assert reader.document(document_id).total_segments == ROWS + 1
    _by_hand(document_id, tmp_path)


def _by_hand(document_id: UUID, folder: Path) -> None:
    made = rag_worker("segments", "create", document_id, "A bell rings.", "--json").json()
    one = made["segment_id"]

    def last() -> dict:
        listed = rag_worker("segments", "list", document_id, "--after", ROWS, "--json")
        return listed.json()["segments"][0]

    eventually(lambda: last()["status"] == "completed", 30)
    assert rag_worker("segments", "update", one, "A gong rings.").out == f"updated {one}\n"
    eventually(lambda: last()["content"] == "A gong rings.", 30)
    assert rag_worker("segments", "disable", one).out == "1 disabled\n"
    assert "disabled" in rag_worker("segments", "list", document_id, "--after", ROWS).out
    assert rag_worker("segments", "enable", one, "--json").json() == {"enabled": [one]}
    assert rag_worker("segments", "delete", one).out == "1 deleted\n"
    assert "no segment" in rag_worker("segments", "delete", one).failed_in_one_line(4)
    bad = folder / "bad.csv"
    bad.write_text("content,note\nGood.,a\n,b\n")
    ran = rag_worker("segments", "import", document_id, bad)
    assert (ran.code, "row 3: it has no content" in ran.out) == (1, True), ran
