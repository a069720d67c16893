"""What is deleted goes for good: in batches, once, whatever dies, whoever deleted it."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import inspect, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from shared.errors import ServiceUnavailable
from shared.models import (
    Base,
    Dataset,
    db,
)
from tests.fixtures.removals import LAMPS, Make, clean_messages, counts, delete_raw, notes, stored
from worker.services.dataset.removal import (
    CONTENT,
    RemovalNeeds,
    clean_documents,
)
from worker.services.dataset.retrieval import search
from worker.stores.pgvector import PgVectorStore
from worker.tasks import dataset as tasks
from worker.wiring import removal_needs, retrieval_needs, sweep

_COPY_SEGMENTS = text("""
    INSERT INTO document_segments (id, tenant_id, dataset_id, document_id, version, position,
                                   content, word_count, tokens, index_node_hash)
    SELECT gen_random_uuid(), tenant_id, dataset_id, :id, version, position + 100,
           content, word_count, tokens, index_node_hash
    FROM document_segments
""")


class Death(BaseException):
    """A process that ends here runs nothing more."""


def test_every_table_of_content_is_cleaned_up() -> None:
    known = {inspect(kind).local_table.name for kind in CONTENT}
    known |= {"segment_vectors", "removals"}
    # What its owners are told; it ends by itself, after AUTO_DISABLE_LOG_DAYS.
    known |= {"dataset_auto_disable_logs"}
    unknown = []
    for table in Base.metadata.sorted_tables:
        column = table.columns.get("document_id")
        if column is not None and not column.foreign_keys and table.name not in known:
            unknown.append(table.name)
        cascading = {key.column.table.name for key in getattr(column, "foreign_keys", ())}
        assert not (cascading and table.name in known), "one statement would delete it all"
    assert unknown == [], "deleted documents leave rows there: see removal.CONTENT"


def test_a_raw_delete_hides_a_document_at_once_and_the_sweeper_has_it_cleaned_up(
    session: Session, dataset_id: UUID, make: Make, tmp_path: Path
) -> None:
    gone, kept = make(), make("horn.txt", b"The fog horn sounds twice a minute.")
    before = counts(kept)
    delete_raw(gone)

    assert counts(gone) == (0, LAMPS, LAMPS)
    found = search(dataset_id, "how often does the lamp turn?", retrieval_needs())
    assert {one.document_id for one in found} == {kept}

    sweep()
    sweep()  # once more: its message is on its way
    (message,) = clean_messages()
    assert message.task == "worker.tasks.dataset.batch_clean_document_task"
    assert message.args == [[str(gone)], str(dataset_id)]
    assert message.tenant_id == session.get_one(Dataset, dataset_id).tenant_id

    tasks.batch_clean_document_task(*message.args)
    assert counts(gone) == (0, 0, 0)
    assert counts(kept) == before
    assert stored(tmp_path) == ["removed", "upload_files"]
    assert notes() == ["stored_file"]


@pytest.mark.parametrize("task", ["clean_document_task", "batch_clean_document_task"])
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("is_deleted_before", [True, False])
def test_a_clean_up_by_ids_alone(
    task: str, times: int, *, is_deleted_before: bool, dataset_id: UUID, make: Make
) -> None:
    gone, kept = make(), make("horn.txt", b"The fog horn sounds twice a minute.")
    if is_deleted_before:
        delete_raw(gone)

    for _ in range(times):
        ids = str(gone) if task == "clean_document_task" else [str(gone)]
        getattr(tasks, task)(ids, str(dataset_id))

    assert counts(gone) == (0, 0, 0)
    assert counts(kept) == (1, 1, 1)


def test_a_document_of_another_dataset_is_left_alone(make: Make) -> None:
    document = make()

    tasks.clean_document_task(str(document), str(uuid4()))

    assert counts(document) == (1, 9, 9)
    assert notes() == []


class FaultyStore(PgVectorStore):
    """Fails, or dies, at its first deletions."""

    def __init__(self, error: BaseException, good: int = 0) -> None:
        self._error, self._good = error, good

    def delete_other_generations(self, *arguments: Any) -> int:
        if self._good == 0:
            raise self._error
        self._good -= 1
        return super().delete_other_generations(*arguments)


class FaultyFiles:
    """A storage that does not answer."""

    def set_aside(self, key: str) -> None:
        raise ServiceUnavailable("the storage answers 503")

    bring_back = discard = set_aside


@pytest.mark.parametrize(
    ("fault", "left", "noted"),
    [
        ({"vectors": FaultyStore(ServiceUnavailable())}, (0, LAMPS, LAMPS), ["document"]),
        ({"vectors": FaultyStore(Death(), good=2)}, (0, 9, 5), ["document"]),
        ({"files": FaultyFiles()}, (0, 0, 0), ["stored_file"]),
    ],
    ids=["store away", "killed in the middle", "storage away"],
)
def test_a_fault_at_any_stage_leaves_a_note_and_the_next_delivery_ends_it(
    fault: dict[str, object],
    left: tuple[int, int, int],
    noted: list[str],
    dataset_id: UUID,
    make: Make,
    tmp_path: Path,
) -> None:
    gone = make()
    needs: RemovalNeeds = replace(removal_needs(), batch_rows=2, **fault)

    with pytest.raises((ServiceUnavailable, Death)):
        clean_documents(dataset_id, [gone], needs)
    assert counts(gone) == left
    assert notes() == noted

    sweep()
    (message,) = clean_messages()
    getattr(tasks, message.task.rpartition(".")[2])(*message.args)
    assert counts(gone) == (0, 0, 0)
    assert notes() == ["stored_file"]
    assert stored(tmp_path) == ["removed"]


def test_what_another_clean_up_is_at_keeps_the_note(dataset_id: UUID, make: Make) -> None:
    gone = make()
    with Session(db.engine) as other:
        other.execute(text("SELECT 1 FROM document_segments LIMIT 1 FOR UPDATE"))
        clean_documents(dataset_id, [gone], removal_needs())
        assert counts(gone) == (0, 1, 0)
        assert notes() == ["document"]

    clean_documents(dataset_id, [gone], removal_needs())
    assert counts(gone) == (0, 0, 0)
    assert notes() == ["stored_file"]


def test_content_asks_for_its_own_document_and_does_not_read_the_others(
    session: Session, make: Make
) -> None:
    documents = [make() for _ in range(3)]
    session.execute(_COPY_SEGMENTS, {"id": documents[1]})
    scans = text("SELECT pg_stat_get_xact_numscans('documents'::regclass)")
    assert session.scalar(scans) == 0


def test_content_of_a_document_that_is_not_there_is_refused(
    session: Session, dataset_id: UUID, make: Make
) -> None:
    document = make()
    session.execute(_COPY_SEGMENTS, {"id": document})
    with pytest.raises(IntegrityError, match="there is no document"):
        session.execute(_COPY_SEGMENTS, {"id": uuid4()})
