"""Segments by the commands a user types."""

from pathlib import Path
from uuid import UUID

from tests.fixtures.application import Submit
from tests.fixtures.commands import rag_worker
from worker.services.dataset.indexing import index_document
from worker.tasks import dataset as tasks
from worker.wiring import indexing_needs


def test_segments_are_made_switched_off_and_imported(
    tmp_path: Path, dataset_id: UUID, submit: Submit
) -> None:
    document_id = submit({"a.txt": b"The gull follows the boat."})[0].document_id
    index_document(document_id, dataset_id, indexing_needs())

    made = rag_worker("segments", "create", document_id, "A bell rings.", "--json").json()
    one = made["segment_id"]
    tasks.create_segment_to_index_task(one)
    assert rag_worker("segments", "disable", one).out == "1 disabled\n"
    (last,) = rag_worker("segments", "list", document_id, "--after", 0, "--json").json()["segments"]
    assert (last["id"], last["content"], last["enabled"]) == (one, "A bell rings.", False)
    assert rag_worker("segments", "delete", one).out == "1 deleted\n"
    assert "no segment" in rag_worker("segments", "delete", one).failed_in_one_line(4)

    path = tmp_path / "rows.csv"
    path.write_text("content,note\nGood.,a\n,b\n")
    waiting = rag_worker("segments", "import", document_id, path, "--no-wait", "--json").json()
    tasks.batch_create_segment_to_index_task(waiting["import_id"])
    assert "Good." in rag_worker("segments", "list", document_id).out
