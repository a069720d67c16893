"""Dead letters: found by the beginning of an id, replayed as ordinary messages, discarded."""

import threading
from datetime import UTC, datetime
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import delete
from sqlalchemy.orm import Session

from shared.contract import DOCUMENT_INDEXING, MAIL_QUEUE
from shared.errors import AttemptsExhausted, InvalidRequest, NotFound
from shared.models import NO_TENANT, DeadLetter, Document, DocumentStatus, OutboxMessage, db
from tests.fixtures.application import Reader, Submit
from tests.fixtures.messages import Messages
from worker.delivery import dead_letters
from worker.tasks.dataset import document_indexing_task
from worker.wiring import indexing_needs

ONE = UUID("11110000-0000-4000-8000-000000000001")
TWO = UUID("11112222-0000-4000-8000-000000000002")


def write(session: Session, letter_id: UUID, task: str = "probe.quiet", **values: object) -> UUID:
    columns = {
        "message_id": letter_id,
        "tenant_id": NO_TENANT,
        "task": task,
        "queue": "dataset",
        "args": ["replayed"],
        "exception": "ZeroDivisionError",
        "reason": "a defect",
        "created_at": datetime.now(UTC),
    }
    session.add(DeadLetter(id=letter_id, **(columns | values)))
    session.commit()
    return letter_id


def test_letters_are_found_by_what_tells_them_apart(session: Session) -> None:
    write(session, ONE, "shop.tasks.send_order")
    write(session, TWO, "shop.tasks.xsend_order")

    assert dead_letters.letter(session, "11110000").id == ONE
    assert dead_letters.letter(session, str(TWO).upper()).id == TWO
    assert [one.id for one in dead_letters.letters(session)] == [TWO, ONE]
    assert dead_letters.letter_ids(session) == [ONE, TWO]
    for name in ("send_order", "shop.tasks.send_order"):
        assert dead_letters.letter_ids(session, task=name) == [ONE]
        assert [one.id for one in dead_letters.letters(session, task=name)] == [ONE]
    with pytest.raises(InvalidRequest, match="several"):
        dead_letters.letter(session, "1111")
    for missing in ("2", "", "%", "_1110000"):
        with pytest.raises(NotFound):
            dead_letters.letter(session, missing)
    assert dead_letters.discard(session, [ONE, ONE]) == 1
    assert dead_letters.letter_ids(session) == [TWO]


def test_a_replay_is_an_ordinary_message_in_its_old_queue_and_happens_once(
    app: Flask, session: Session, messages: Messages
) -> None:
    write(session, ONE, queue=MAIL_QUEUE, attempts=7, kwargs={"by": "name"})
    together = threading.Barrier(2)
    answers: list[UUID | None] = []
    engine = db.engine

    def replay() -> None:
        with Session(engine) as own, own.begin():
            own.connection()
            together.wait(300)
            answers.append(dead_letters.replay(own, ONE))

    operators = [threading.Thread(target=replay) for _ in range(2)]
    for operator in operators:
        operator.start()
    for operator in operators:
        operator.join(300)

    (row,) = messages.rows()
    assert set(answers) == {row.id, None}
    assert (row.task, row.queue, row.args) == ("probe.quiet", MAIL_QUEUE, ["replayed"])
    assert (row.kwargs, row.attempts, row.deaths) == ({"by": "name"}, 0, 0)
    assert messages.letters() == []


def test_a_replay_revives_the_documents_that_ended_and_no_others(
    app: Flask, session: Session, submit: Submit, dataset_id: UUID, reader: Reader
) -> None:
    # A message each.
    ((ended,), (waits,)) = (
        [one.document_id for one in submit(files)]
        for files in ({"a.txt": b"A heron."}, {"b.txt": b"A gull."})
    )
    args = [str(dataset_id), [str(ended)]]
    document_indexing_task.abandon(AttemptsExhausted("given up"), args, {})
    document = reader.document(ended)
    assert (document.indexing_status, document.error) == (DocumentStatus.ERROR, "given up")
    assert not app.extensions["redis"].exists(f"document_{ended}_indexing")
    session.get_one(Document, waits).error = "left alone"
    both = [str(dataset_id), [str(ended), str(waits)]]
    write(session, ONE, DOCUMENT_INDEXING.name, args=both)

    of_the_other = reader.document(waits).message_id
    # As it is when a message is given up: its row is gone.
    session.execute(delete(OutboxMessage).where(OutboxMessage.id == document.message_id))

    replayed = dead_letters.replay(session, ONE, app.extensions["celery"])
    assert replayed is not None
    session.commit()

    document = reader.document(ended)
    assert (document.indexing_status, document.error) == (DocumentStatus.WAITING, None)
    assert document.message_id == replayed
    assert reader.document(waits).error == "left alone"
    assert reader.document(waits).message_id == of_the_other


def test_giving_up_twice_leaves_what_came_after_alone(
    submit: Submit, dataset_id: UUID, reader: Reader
) -> None:
    from worker.services.dataset.indexing import index_document

    (submission,) = submit({"a.txt": b"A heron."})
    index_document(submission.document_id, dataset_id, indexing_needs())
    args = [str(dataset_id), [str(submission.document_id)]]

    for _ in range(2):
        document_indexing_task.abandon(AttemptsExhausted("too late"), args, {})

    document = reader.document(submission.document_id)
    assert (document.indexing_status, document.error) == (DocumentStatus.COMPLETED, None)
