"""A purge loses nothing that was accepted, and takes nothing out of a worker's hands."""

from uuid import UUID, uuid4

import pytest
from flask import Flask
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from shared.contract import PROBE
from shared.models import DeadLetter, MailDelivery, Removal, db
from tests.fixtures.application import Reader, Submit
from tests.fixtures.messages import Messages
from tests.fixtures.outbox_rows import Outbox
from worker.delivery import broker
from worker.delivery.purging import Purge, Purged
from worker.wiring import sweep


def purge(app: Flask, queue: str) -> Purged:
    celery = app.extensions["celery"]
    celery.loader.import_default_modules()
    with celery.connection_for_write() as connection:
        return Purge(db.engine, celery, connection, queue).run()


def test_what_a_worker_has_in_hand_is_left_alone(
    app: Flask, rows: Outbox, messages: Messages
) -> None:
    rows.fill(uuid4(), 120, task="shop.tasks.send_order")
    rows.change(
        "UPDATE outbox SET published_at = now(), lease_expires_at = now() + interval '1 minute' "
        "WHERE sequence = (SELECT min(sequence) FROM outbox)"
    )

    assert purge(app, "dataset") == Purged(buried=119, dropped=0, in_hand=1)

    assert rows.count() == 1
    assert len(messages.letters()) == 119
    assert {one.exception for one in messages.letters()} == {"PurgedFromQueue"}
    assert purge(app, "dataset") == Purged(0, 0, 1), "done twice it does nothing"


def test_other_queues_keep_theirs(app: Flask, rows: Outbox) -> None:
    rows.fill(uuid4(), 2, queue="mail")
    assert purge(app, "dataset") == Purged(0, 0, 0)
    assert rows.count() == 2


def test_a_mail_that_came_by_plain_delay_fails_and_its_content_is_kept_for_a_replay(
    app: Flask, session: Session, messages: Messages, rows: Outbox
) -> None:
    name = "worker.tasks.mail.send_email_code_login_mail_task"
    sent = messages.delay(name, "en-US", "ada@example.com", "482913", queue="mail")
    messages.delay(PROBE.name, queue="mail")

    assert purge(app, "mail") == Purged(buried=1, dropped=1, in_hand=0)

    (mail,) = session.scalars(select(MailDelivery)).all()
    assert (mail.id, mail.status, mail.error) == (sent, "failed", "purged from the queue mail")
    (letter,) = messages.letters()
    assert (letter.args, letter.kwargs) == ([], {"delivery_id": str(sent)})
    assert rows.in_broker("mail") == set()
    sweep()
    assert rows.count() == 0


def test_a_worker_that_is_faster_keeps_the_message(
    app: Flask, messages: Messages, rows: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages.delay("shop.tasks.send_order", "one", queue="dataset")
    monkeypatch.setattr(broker, "take_out", lambda *_: False)

    assert purge(app, "dataset") == Purged(0, 0, 0)
    assert messages.letters() == []


def test_what_was_deleted_is_cleaned_up_all_the_same_later(
    app: Flask, session: Session, submit: Submit, reader: Reader, rows: Outbox
) -> None:
    document_id: UUID = submit({"a.txt": b"gone"})[0].document_id
    session.execute(text("DELETE FROM documents WHERE id = :id"), {"id": document_id})
    session.commit()
    sweep()
    assert rows.count("task LIKE '%clean_document_task'") == 1

    purge(app, "dataset")
    sweep()

    assert rows.count() == 0, "postponed"
    session.execute(text("UPDATE removals SET due_at = now() - interval '1 s'"))
    session.commit()
    sweep()
    assert rows.count("task LIKE '%clean_document_task'") == 1, "a deletion is a promise"
    assert session.scalars(select(Removal)).first() is not None
    assert session.scalars(select(DeadLetter)).first() is not None
