"""Dify-style producers: a plain ``.delay()`` with ids alone, to a real worker."""

from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from shared.models import Dataset, Document, db
from shared.submitting.removing import delete_dataset
from tests.fixtures.application import Reader, Submit
from tests.fixtures.messages import Messages
from tests.fixtures.removals import Make, counts, notes
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker
from worker.tasks import dataset as tasks


def test_each_task_does_its_work_by_ids_alone(
    session: Session,
    dataset_id: UUID,
    make: Make,
    submit: Submit,
    reader: Reader,
    messages: Messages,
    start_worker: StartWorker,
) -> None:
    one, two, gone = make("one.txt"), make("two.txt"), make("gone.txt")
    (held,) = (each.document_id for each in submit({"held.txt": b"A heron stands in the reeds."}))
    session.execute(
        text("UPDATE documents SET indexing_status = 'paused', is_paused = true WHERE id = :id"),
        {"id": held},
    )
    session.execute(
        text("UPDATE documents SET indexing_status = 'error', error = 'x' WHERE id = :id"),
        {"id": two},
    )
    session.execute(text("UPDATE documents SET enabled = false WHERE id = :id"), {"id": one})
    # That something is made of it is seen by its version.
    session.execute(text("UPDATE documents SET fingerprint = NULL"))
    session.commit()
    start_worker("threads", 2)

    tasks.document_indexing_update_task.delay(str(dataset_id), str(one))
    tasks.remove_document_from_index_task.delay(str(one))
    tasks.retry_document_indexing_task.delay(str(dataset_id), [str(two)], "a user's id")
    tasks.recover_document_indexing_task.delay(str(dataset_id), str(held))
    tasks.clean_document_task.delay(str(gone), str(dataset_id), "text_model", None)

    eventually(lambda: reader.document(one).active_version == 2)
    eventually(lambda: reader.document(two).active_version == 2)
    eventually(lambda: reader.document(held).indexing_status == "completed")
    eventually(lambda: reader.document(one).disabled_at is not None)
    eventually(lambda: counts(gone) == (0, 0, 0))
    for document in (one, two, held):
        row = reader.document(document)
        assert counts(document) == (1, row.total_segments, row.total_segments)
    session.execute(text("UPDATE documents SET fingerprint = NULL"))
    session.commit()
    tasks.duplicate_document_indexing_task.delay(str(dataset_id), [str(one), str(two)])
    eventually(lambda: {reader.document(each).active_version for each in (one, two)} == {3})

    with Session(db.engine) as deleting, deleting.begin():
        delete_dataset(deleting, dataset_id, celery=messages.celery)
    eventually(lambda: {*notes()} == {"stored_file"})
    assert session.scalars(select(Document)).all() == []
    assert session.scalars(select(Dataset)).all() == []
    for document in (one, two, held):
        assert counts(document) == (0, 0, 0)
    messages.await_quiet_broker()
    assert messages.letters() == []
