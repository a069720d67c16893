"""``rag-worker documents`` and ``datasets``: what becomes of what is there."""

import json
from pathlib import Path
from uuid import UUID, uuid4

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shared.models import Dataset, Document, OutboxMessage
from tests.fixtures.application import Reader
from tests.fixtures.commands import rag_worker
from tests.fixtures.removals import Make

PLACE = ("--tenant", "acme", "--dataset", "manuals")


def test_documents_are_hidden_shown_updated_and_deleted(
    make: Make, reader: Reader, session: Session, dataset_id: UUID, tmp_path: Path
) -> None:
    one, two = make("one.txt"), make("two.txt", b"The fog horn sounds.")

    assert rag_worker("documents", "disable", one, two).out == "2 disabled\n"
    assert not reader.document(one).enabled
    assert rag_worker("documents", "enable", one, one).out == "1 enabled\n"
    whole = rag_worker("documents", "enable", *PLACE, "--json").json()
    assert whole == {"documents": [str(two)], "number": 1}
    assert rag_worker("documents", "archive", *PLACE).out == "2 archived\n"
    assert reader.document(two).archived
    assert "unarchive it first" in rag_worker("documents", "disable", one).err
    assert rag_worker("documents", "unarchive", two).out == "1 unarchived\n"

    file, rule = tmp_path / "new.txt", tmp_path / "rule.json"
    file.write_text("The lamp is an electric one now.")
    rule.write_text(json.dumps({"mode": "automatic"}))
    updated = rag_worker("documents", "update", one, "--file", file, "--rule", rule)
    assert updated.out == "1 to be indexed again\n"
    document = reader.document(one)
    assert (document.name, document.indexing_status) == ("new.txt", "waiting")
    assert (document.index_version, document.active_version) == (2, 1)
    assert "is waiting" in rag_worker("documents", "duplicate", one).failed_in_one_line(4)
    assert rag_worker("documents", "duplicate", *PLACE).out == "1 to be indexed again\n"
    assert rag_worker("documents", "retry", *PLACE).out == "0 to be retried\n"
    assert "nothing is new" in rag_worker("documents", "update", two).failed_in_one_line(4)

    assert rag_worker("documents", "delete", one).out == "1 deleted\n"
    assert session.scalar(select(func.count()).select_from(Document)) == 1
    assert str(one) in rag_worker("documents", "delete", two, one).failed_in_one_line(4)
    assert rag_worker("documents", "delete").code == 2


def test_datasets_are_listed_and_deleted(make: Make, session: Session, dataset_id: UUID) -> None:
    make()
    (listed,) = rag_worker("datasets", "list", "--json").json()["datasets"]
    assert (listed["id"], listed["name"], listed["documents"]) == (str(dataset_id), "manuals", 1)
    assert (
        "acme/manuals  high_quality text_model  1 documents" in rag_worker("datasets", "list").out
    )
    assert rag_worker("datasets", "list", "--tenant", str(uuid4())).out == "no datasets\n"

    asked = rag_worker("datasets", "delete", "manuals", "--tenant", "acme")
    assert asked.code == 1
    assert session.get(Dataset, dataset_id) is not None
    session.rollback()

    done = rag_worker("datasets", "delete", "manuals", "--tenant", "acme", "--yes", "--json").json()
    assert done["dataset_id"] == str(dataset_id)
    message = session.get(OutboxMessage, UUID(done["task_id"]))
    assert message is not None
    assert message.task.endswith(".clean_dataset_task")
    session.expire_all()
    assert session.get(Dataset, dataset_id) is None
    rag_worker("datasets", "delete", "manuals", "--tenant", "acme").failed_in_one_line(4)
