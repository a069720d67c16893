"""A message about several documents: each ends for itself."""

from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from shared.errors import EmptyFile, InvalidRequest
from shared.models import Document, DocumentStatus, OutboxMessage
from shared.submitting.grouping import GROUP_DOCUMENTS
from tests.fixtures.application import Reader, Submit
from tests.fixtures.worker_process import StartWorker
from worker.services.dataset.groups import index_documents
from worker.services.dataset.messages import parse_ids
from worker.tasks.dataset import document_indexing_task
from worker.wiring import indexing_needs

_SOME_ID = "2f1b6a52-3d0c-4f8e-9a57-6f0f3d1c9e10"
TEXT = b"The well on the north side is tested every month. " * 5


def test_one_that_fails_and_one_that_is_held_do_not_touch_the_others(
    session: Session, dataset_id: UUID, submit: Submit, reader: Reader
) -> None:
    names = ("good.txt", "empty.txt", "held.txt", "last.txt")
    contents = {name: b"" if name == "empty.txt" else TEXT + name.encode() for name in names}
    ids = [one.document_id for one in submit(contents)]
    session.execute(
        update(Document)
        .where(Document.id == ids[2])
        .values(lease_expires_at=func.now() + func.make_interval(0, 0, 0, 0, 1))
    )
    session.commit()

    index_documents(dataset_id, [*ids, uuid4()], indexing_needs())

    assert [reader.document(one).indexing_status for one in ids] == [
        DocumentStatus.COMPLETED,
        DocumentStatus.ERROR,
        DocumentStatus.WAITING,
        DocumentStatus.COMPLETED,
    ]
    assert "empty.txt has 0 bytes" in (reader.document(ids[1]).error or "")


def test_a_document_alone_raises_its_own_error(dataset_id: UUID, submit: Submit) -> None:
    (submission,) = submit({"empty.txt": b""})
    with pytest.raises(EmptyFile):
        index_documents(dataset_id, [submission.document_id], indexing_needs())


def test_what_is_too_much_for_one_message_goes_to_other_workers(
    session: Session, dataset_id: UUID, submit: Submit, reader: Reader
) -> None:
    contents = {f"{number}.txt": TEXT + str(number).encode() for number in range(20)}
    ids = [one.document_id for one in submit(contents)]
    first_messages = {reader.document(one).message_id for one in ids}

    index_documents(dataset_id, ids, indexing_needs())

    done = [one for one in ids if reader.document(one).indexing_status == "completed"]
    assert done == ids[:GROUP_DOCUMENTS]
    sent = session.scalars(
        select(OutboxMessage).where(OutboxMessage.id.not_in(first_messages)).order_by("sequence")
    )
    assert [one for message in sent for one in message.args[1]] == [
        str(one) for one in ids[GROUP_DOCUMENTS:]
    ]


def test_delay_with_many_ids_indexes_each_once(
    dataset_id: UUID, submit: Submit, reader: Reader, start_worker: StartWorker
) -> None:
    start_worker("threads", 2)
    contents = {f"{number}.txt": TEXT + str(number).encode() for number in range(20)}
    ids = [one.document_id for one in submit(contents)]

    document_indexing_task.delay(str(dataset_id), [str(one) for one in ids + ids[:5]])

    assert {one.indexing_status for one in reader.await_end(*ids)} == {DocumentStatus.COMPLETED}


@pytest.mark.parametrize(
    ("dataset", "documents", "named"),
    [
        ("not an id", [_SOME_ID], "dataset_id"),
        (_SOME_ID, ["not an id"], "document_ids"),
        (_SOME_ID, [None], "document_ids"),
        (_SOME_ID, [], "document_ids is empty"),
        (_SOME_ID, _SOME_ID, "document_ids is a list"),
    ],
)
def test_a_message_that_says_nothing_sensible_names_what_is_wrong(
    dataset: str, documents: list[str], named: str
) -> None:
    with pytest.raises(InvalidRequest, match=named):
        parse_ids(dataset, documents)
