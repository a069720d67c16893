"""What the schedule cleans up and tells of: letters, messages nobody knows, mails, queues."""

import logging
from uuid import uuid4

import pytest
from flask import Flask
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from shared.app_factory import create_app
from shared.contract import (
    CLEAN_MAIL,
    CLEAN_OUTBOX,
    DEAD_LETTER_ALERT,
    QUEUE_MONITOR,
    QUEUES,
    SWEEP,
)
from shared.models import DeadLetter, MailDelivery, ScheduledRun, db
from tests.fixtures.mails import Mails
from tests.fixtures.metrics import measured
from tests.fixtures.outbox_rows import Outbox
from worker.delivery.queue_state import QueueState
from worker.services.ops_trace.queue_monitor import QueueLimits, problems_of
from worker.wiring.maintenance import maintain


def letter(session: Session, days: int = 0, reason: str = "it broke") -> None:
    session.execute(
        text(
            "INSERT INTO dead_letters "
            "(id, message_id, tenant_id, task, queue, args, kwargs, exception, reason, created_at) "
            "VALUES (gen_random_uuid(), gen_random_uuid(), :nobody, 'shop.tasks.send_order', "
            "'mail', '[]', '{}', 'ValueError', :reason, "
            "now() - interval '2 minutes' - make_interval(days => :days))"
        ),
        {"nobody": uuid4(), "days": days, "reason": reason},
    )
    session.commit()


def test_messages_of_tasks_there_are_not_become_dead_letters_and_old_letters_go(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEAD_LETTER_DAYS", "30")
    app = create_app()
    with app.app_context(), Session(db.engine) as session:
        rows = Outbox(db.engine, app.extensions["celery"])
        rows.fill(uuid4(), 3, task="shop.tasks.gone")
        rows.fill(uuid4(), 2, task="worker.tasks.mail.send_test_mail_task")
        rows.change(
            "UPDATE outbox SET created_at = now() - interval '2 days', "
            "lease_expires_at = CASE WHEN sequence = (SELECT min(sequence) FROM outbox) "
            "THEN now() + interval '1 minute' END"
        )
        letter(session, days=29)
        letter(session, days=31)

        maintain(CLEAN_OUTBOX)

        assert {row.task.rpartition(".")[2] for row in rows.rows("lease_expires_at IS NULL")} == {
            "send_test_mail_task"
        }
        assert rows.count() == 3, "what somebody has in hand is his"
        letters = session.scalars(select(DeadLetter)).all()
        assert sorted(one.exception for one in letters) == ["NotRegistered"] * 2 + ["ValueError"]
        db.engine.dispose()


def test_dead_letters_are_kept_for_ever_unless_somebody_says_otherwise(
    app: Flask, session: Session
) -> None:
    letter(session, days=3000)
    maintain(CLEAN_OUTBOX)
    assert len(session.scalars(select(DeadLetter)).all()) == 1


def test_new_dead_letters_are_told_once_by_the_log_and_by_a_mail_a_recipient(
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("DEAD_LETTER_ALERT_EMAILS", "ada@example.com, grace@example.com")
    app = create_app()
    with app.app_context(), Session(db.engine) as session, caplog.at_level(logging.ERROR):
        letter(session, reason="{{ 7 * 7 }} <b>")
        maintain(DEAD_LETTER_ALERT)
        letter(session, days=-1)  # its transaction has just been committed: next time
        maintain(DEAD_LETTER_ALERT)

        alerts = [one.getMessage() for one in caplog.records if "dead letters:" in one.getMessage()]
        assert len(alerts) == 1
        assert "1 x send_order, such as: {{ 7 * 7 }} <b>" in alerts[0]
        mails = session.scalars(select(MailDelivery)).all()
        assert {one.recipient for one in mails} == {"ada@example.com", "grace@example.com"}
        db.engine.dispose()


def test_ended_mails_go_after_their_days_and_no_others(app: Flask, session: Session) -> None:
    mails = Mails(app)
    kept, old, waiting = (mails.accept() for _ in range(3))
    age = "created_at = now() - interval '31 days'"
    for mail, change in (
        (kept, "status = 'sent'"),
        (old, f"status = 'sent', {age}"),
        (waiting, age),
    ):
        session.execute(text(f"UPDATE mail_deliveries SET {change} WHERE id = :id"), {"id": mail})
    session.commit()

    maintain(CLEAN_MAIL)

    assert set(session.scalars(select(MailDelivery.id))) == {kept, waiting}


def state(**values: object) -> QueueState:
    known = {
        "queue": "mail",
        "waiting": 0,
        "in_broker": 0,
        "in_flight": 0,
        "oldest_seconds": 0.0,
        "consumers": ("one@host",),
        "slots": 2,
        "is_paused": False,
    }
    return QueueState(**{**known, **values})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({}, None),
        ({"waiting": 60, "in_broker": 50}, "110 messages wait, more than 100"),
        ({"oldest_seconds": 61.0}, "the oldest message waits for 61 s"),
        ({"consumers": ()}, "no live worker serves it"),
        ({"consumers": (), "is_paused": True, "waiting": 1000}, None),
        (
            {"consumers": (), "waiting": 101},
            "no live worker serves it, 101 messages wait, more than 100",
        ),
    ],
)
def test_what_is_wrong_with_a_queue(values: dict[str, object], wanted: str | None) -> None:
    assert problems_of(state(**values), QueueLimits(100, 60), ["mail"]) == wanted


def test_a_worker_that_starts_anew_is_no_alarm() -> None:
    assert problems_of(state(consumers=()), QueueLimits(0, 0), []) is None


def node(rows: Outbox, queues: str) -> None:
    rows.change(
        "INSERT INTO worker_nodes (name, host, pid, process_created, pool, concurrency, queues, "
        f"busy) VALUES ('one@elsewhere', 'elsewhere', 1, 1, 'solo', 1, '{queues}', 0)"
    )


def test_the_monitor_names_a_queue_nobody_serves_and_mails_that_once(
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("QUEUE_MONITOR_ALERT_EMAILS", "ada@example.com")
    monkeypatch.setenv("QUEUE_MONITOR_SECONDS", "1")
    app = create_app()
    with app.app_context(), Session(db.engine) as session, caplog.at_level(logging.ERROR):
        rows = Outbox(db.engine, app.extensions["celery"])
        served = [one for one in QUEUES if one != "mail"]
        node(rows, "{" + ",".join(served) + "}")
        for _ in range(3):
            maintain(QUEUE_MONITOR)
            rows.change("UPDATE scheduled_runs SET started_at = now() - interval '1 minute'")

        lines = [one.getMessage() for one in caplog.records if "queue " in one.getMessage()]
        assert lines == ["queue mail: no live worker serves it"] * 2, "not at the first look"
        (mail,) = session.scalars(select(MailDelivery)).all()
        assert mail.recipient == "ada@example.com"
        db.engine.dispose()


def test_what_the_schedule_did_shows_in_the_metrics_of_every_worker(
    app: Flask, session: Session, rows: Outbox
) -> None:
    rows.fill(uuid4(), 2)
    rows.change("UPDATE outbox SET published_at = now(), lease_expires_at = now() - interval '1 s'")
    node(rows, "{dataset}")
    maintain(SWEEP)
    seen = measured(app)

    assert session.scalar(select(ScheduledRun.total).where(ScheduledRun.name == "sweep")) == 2
    assert seen.get("schedule_done", entry="sweep") == 2
    assert seen.get("schedule_failed", entry="sweep") == 0
    assert seen.get("queue_consumers", queue="dataset") == 1
    assert seen.get("queue_consumers", queue="mail") == 0
