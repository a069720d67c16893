"""Files leave the storage when no document has them, and never one that somebody needs."""

import threading
from pathlib import Path
from uuid import UUID

from flask import Flask
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from shared.models import (
    Dataset,
    Document,
    Removal,
    UploadFile,
    db,
)
from tests.fixtures.application import Submit
from tests.fixtures.removals import (
    LAMP,
    Make,
    clean_messages,
    delete_raw,
    notes,
    stored,
)
from tests.fixtures.waiting import eventually
from worker.services.dataset.indexing import index_document
from worker.services.dataset.removal import (
    clean_documents,
)
from worker.tasks import dataset as tasks
from worker.wiring import indexing_needs, removal_needs, remove_unused_files, sweep


def test_a_file_that_another_document_has_stays(
    dataset_id: UUID, make: Make, tmp_path: Path
) -> None:
    gone, kept = make("one.txt"), make("two.txt")
    clean_documents(dataset_id, [gone], removal_needs())
    assert stored(tmp_path) == ["upload_files"]
    assert notes() == []  # the same content under another name lies in the same place
    clean_documents(dataset_id, [kept], removal_needs())
    assert stored(tmp_path) == ["removed"]


def test_one_set_aside_goes_when_its_time_is_over(
    session: Session, dataset_id: UUID, make: Make, tmp_path: Path
) -> None:
    clean_documents(dataset_id, [make()], removal_needs())
    remove_unused_files()
    assert stored(tmp_path) == ["removed"]
    session.execute(update(Removal).values(due_at=func.now()))
    session.commit()
    sweep()
    (message,) = clean_messages()
    assert message.task.endswith(".clean_files_task")

    tasks.clean_files_task()

    assert stored(tmp_path) == []
    assert notes() == []


def test_one_submitted_between_its_storing_and_its_removal_is_found(
    app: Flask, session: Session, dataset_id: UUID, submit: Submit, tmp_path: Path
) -> None:
    (first,) = submit({"lamp.txt": LAMP})
    # A producer has stored the content and not submitted it yet: its file goes.
    clean_documents(dataset_id, [first.document_id], removal_needs())
    assert stored(tmp_path) == ["removed"]
    file = next((tmp_path / "storage" / "removed").rglob("*/??/*"))
    assert file.read_bytes() == LAMP
    key = str(file.relative_to(tmp_path / "storage" / "removed"))
    (other,) = submit({"horn.txt": b"The fog horn."})
    upload = select(UploadFile).where(UploadFile.name == "horn.txt")
    session.scalars(upload).one().storage_key = key
    session.commit()

    assert index_document(other.document_id, dataset_id, indexing_needs()).segments == 9

    session.execute(update(Removal).values(due_at=func.now()))
    session.commit()
    remove_unused_files()
    assert (tmp_path / "storage" / key).read_bytes() == LAMP


def test_the_file_of_a_version_before_goes(dataset_id: UUID, make: Make, tmp_path: Path) -> None:
    make("lamp.txt", LAMP)
    make("lamp.txt", b"The lamp is an electric one now.")
    assert notes() == ["upload_file"]

    remove_unused_files()

    assert stored(tmp_path) == ["removed", "upload_files"]


def test_a_document_that_takes_the_file_at_that_moment_keeps_it(
    session: Session, dataset_id: UUID, make: Make, tmp_path: Path
) -> None:
    gone = make()
    upload = session.get_one(Document, gone).upload_file_id
    session.rollback()
    delete_raw(gone)
    taking = Session(db.engine)
    dataset = taking.get_one(Dataset, dataset_id)
    taking.add(
        Document(
            tenant_id=dataset.tenant_id,
            dataset_id=dataset_id,
            position=9,
            name="other",
            source_key="other",
            upload_file_id=upload,
        )
    )
    taking.flush()
    needs, engine = removal_needs(), db.engine
    cleaning = threading.Thread(target=clean_documents, args=(dataset_id, [gone], needs))
    cleaning.start()
    with engine.connect() as watching:
        blocked = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")

        def waits() -> bool:
            watching.rollback()
            return watching.scalar(blocked) == 1

        eventually(waits)
    taking.commit()
    taking.close()
    cleaning.join(300)

    assert session.scalars(select(Document.upload_file_id)).all() == [upload]
    assert stored(tmp_path) == ["upload_files"]
