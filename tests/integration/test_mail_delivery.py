"""Limits, deaths, sweeping and the other ends of a mail delivery."""

import threading
import time
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event, text, update
from sqlalchemy.orm import Session

from shared.errors import LeaseHeld, RateLimited, RecipientLimitReached, SubjectGone
from shared.models import MailDelivery, MailStatus, db
from shared.submitting.mail import MailRules, send_mails
from tests.fixtures.mail_servers import StartMailServer
from tests.fixtures.mails import MailsTo
from tests.fixtures.messages import Messages
from worker.services.mail.claiming import claim_mail
from worker.services.mail.giving_up import give_up_mail, purge_mail, sweep_mail
from worker.services.mail.sending import deliver_mail
from worker.stores.rate_limit import RateLimit


def write(delivery_id: UUID, **values: object) -> None:
    with Session(db.engine) as session, session.begin():
        session.execute(update(MailDelivery).where(MailDelivery.id == delivery_id).values(**values))


def test_without_a_provider_the_row_says_so_and_a_retry_sends_it(
    start_mail_server: StartMailServer, mails_to: MailsTo, caplog: pytest.LogCaptureFixture
) -> None:
    off = mails_to(SECRET_KEY="a key of the tests")
    delivery_id = off.accept()

    with caplog.at_level("WARNING"):
        assert off.deliver(delivery_id) == "disabled"

    assert "MAIL_TYPE is empty" in caplog.text
    assert "482913" not in caplog.text
    assert "MAIL_TYPE is empty" in str(off.row(delivery_id).error)
    write(delivery_id, status="queued")
    server = start_mail_server()
    assert mails_to(server).deliver(delivery_id) == "sent"
    assert "482913" in server.box.messages()[0].get_body(("plain",)).get_content()  # type: ignore[union-attr]


def test_a_worker_that_died_after_the_handover_leaves_an_unknown_mail_that_is_sent_again(
    start_mail_server: StartMailServer, mails_to: MailsTo
) -> None:
    server = start_mail_server()
    mails = mails_to(server)
    delivery_id, before_dot = mails.accept(), mails.accept(to="bo@example.com")
    for one, values in (
        (delivery_id, {"status": "sending", "copies": 1}),
        (before_dot, {"status": "queued", "copies": 0}),
    ):
        with Session(db.engine) as session, session.begin():
            assert claim_mail(session, one, mails.needs) is not None
        write(one, **values)
        assert mails.deliver(one) is LeaseHeld
        with Session(db.engine) as session, session.begin():
            session.execute(
                text("UPDATE mail_deliveries SET lease_expires_at = now() - interval '1 s'")
            )

    assert mails.deliver(delivery_id) == "resent"
    assert "died before it knew" in str(mails.row(delivery_id).error)
    assert mails.deliver(before_dot) == "sent", "nothing had been handed over"
    assert mails.deliver(uuid4()) is SubjectGone
    assert len(server.box.raw) == 2


def test_the_limit_of_an_address_and_purpose_holds_for_callers_at_once(
    mails_to: MailsTo,
) -> None:
    mails = mails_to()
    rules = MailRules(recipient_limit=3)
    ends: list[object] = []

    def accept() -> None:
        with mails.app.app_context():
            try:
                ends.append(mails.accept(rules=rules, code="1"))
            except RecipientLimitReached as error:
                ends.append(error)

    callers = [threading.Thread(target=accept) for _ in range(8)]
    for one in callers:
        one.start()
    for one in callers:
        one.join()

    assert sum(isinstance(one, UUID) for one in ends) == 3
    assert len(mails.rows()) == 3, "a refused caller rolls its row back"
    mails.accept("reset_password", rules=rules, code="1")
    mails.accept(to="bo@example.com", rules=rules, code="1")
    with Session(db.engine) as session, session.begin():
        answers = send_mails(
            session,
            "email_code_login",
            ["ada@example.com", "cy@example.com"],
            rules=rules,
            code="1",
        )
    assert [one.error is None for one in answers] == [False, True]


def test_the_rate_of_all_workers_is_one(mails_to: MailsTo) -> None:
    redis = mails_to().app.extensions["redis"]
    # A unit each hundred seconds: however slow the test is, the turns stay apart.
    first, second = (RateLimit(redis, "test", 0.01, burst_seconds=1000) for _ in range(2))
    began = time.monotonic()

    waits = [one.reserve(1e6) for _ in range(30) for one in (first, second)]

    took = time.monotonic() - began + 0.01
    due = [max(100.0 * place - 900, 0) for place in range(60)]
    assert waits[:10] == [0.0] * 10, "a burst of a thousand seconds"
    for wait, turn in zip(waits, due, strict=True):
        assert max(turn - took, 0) <= wait <= turn
    assert first.reserve(1) < -(5100 - took - 1), "too long a wait takes no place"
    assert 5100 - took - 5 < second.reserve(1e6) <= 5100


def test_a_mail_whose_turn_is_far_away_waits_without_losing_an_attempt(
    start_mail_server: StartMailServer, mails_to: MailsTo
) -> None:
    mails = mails_to(start_mail_server(), MAIL_RATE_PER_SECOND="0.001")
    first, second = mails.accept(), mails.accept(to="bo@example.com")

    assert mails.deliver(first) == "sent"
    assert mails.deliver(second) is RateLimited
    row = mails.row(second)
    assert (row.status, row.attempts, row.lease_expires_at) == ("queued", 0, None)


def test_the_sweeper_announces_what_nobody_will_come_back_to(mails_to: MailsTo) -> None:
    mails = mails_to()
    messages = Messages(mails.app)
    lost, dead, alive = (mails.accept(to=f"a{one}@example.com") for one in range(3))
    with Session(db.engine) as session, session.begin():
        session.execute(text("DELETE FROM outbox"))
        session.execute(text("UPDATE mail_deliveries SET queued_at = now() - interval '1 hour'"))
        assert claim_mail(session, dead, mails.needs) is not None
        assert claim_mail(session, alive, mails.needs) is not None
    write(dead, status="sending", copies=1, lease_expires_at=text("now() - interval '1 s'"))

    assert sweep_mail(mails.needs, 60) == 2
    assert sweep_mail(mails.needs, 60) == 0
    announced = {UUID(str(one.kwargs["delivery_id"])): one.id for one in messages.rows()}
    assert set(announced) == {lost, dead}
    assert mails.row(lost).message_id == announced[lost]


def test_what_is_given_up_says_why_and_old_ends_are_purged(mails_to: MailsTo) -> None:
    mails = mails_to()
    given_up, waiting, old = (mails.accept(to=f"a{one}@example.com") for one in range(3))

    give_up_mail(given_up, mails.needs, "no reason\0")
    assert (mails.row(given_up).status, mails.row(given_up).error) == ("failed", "no reason")
    assert mails.deliver(given_up) == "failed"

    for one in (waiting, old):
        write(one, created_at=text("now() - interval '31 days'"))
    write(old, status=MailStatus.SENT)
    assert purge_mail(mails.needs.sessions, 30) == 1
    assert {row.id for row in mails.rows()} == {given_up, waiting}


def test_a_worker_that_lost_its_lease_hands_nothing_over(
    start_mail_server: StartMailServer, mails_to: MailsTo
) -> None:
    server = start_mail_server()
    mails = mails_to(server)
    delivery_id = mails.accept()
    thief: Any = _Thief(mails.needs.composer)
    mails.needs = replace(mails.needs, composer=thief)

    assert mails.deliver(delivery_id).__name__ == "LeaseLost"

    assert server.box.raw == []
    assert mails.row(delivery_id).status == "queued"


class _Thief:
    """Composes, and takes the lease away meanwhile."""

    def __init__(self, composer: Any) -> None:
        self._composer = composer
        self.header_id = composer.header_id

    def compose(self, mail: Any) -> Any:
        with Session(db.engine) as session, session.begin():
            session.execute(text("UPDATE mail_deliveries SET lease_token = lease_token + 1"))
        return self._composer.compose(mail)


def test_a_mail_costs_three_statements_each_its_own_transaction(
    start_mail_server: StartMailServer, mails_to: MailsTo
) -> None:
    mails = mails_to(start_mail_server())
    delivery_id = mails.accept()
    said: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        said.append(statement)

    def note_transaction(_: object) -> None:
        said.append("a transaction round it")

    event.listen(db.engine, "before_cursor_execute", note)
    event.listen(db.engine, "commit", note_transaction)
    try:
        deliver_mail(delivery_id, mails.needs)
    finally:
        event.remove(db.engine, "before_cursor_execute", note)
        event.remove(db.engine, "commit", note_transaction)

    assert mails.row(delivery_id).status == "sent"
    assert len(said) == 3, "claimed and read, about to be handed over, sent"
