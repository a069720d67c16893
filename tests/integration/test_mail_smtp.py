"""Mails by SMTP, to real servers: what arrives, and what becomes of each fault."""

import email
import re

import pytest

from shared.errors import (
    AttemptsExhausted,
    MailDeferred,
    MailRefused,
    MailUnconfirmed,
)
from tests.fixtures.mail_servers import StartMailServer
from tests.fixtures.mails import MailsTo


@pytest.mark.parametrize("encryption", ["none", "starttls", "tls"])
def test_what_arrives_is_whole_with_a_login_and_whatever_the_encryption(
    encryption: str, start_mail_server: StartMailServer, mails_to: MailsTo
) -> None:
    server = start_mail_server(encryption, auth=True)
    mails = mails_to(server, MAIL_BRAND_NAME="Gezeiten")
    delivery_id = mails.accept(
        "invite_member",
        "grete@bücher.example.com",
        token="tok en&1",
        inviter_name="Jürgen <b>Ω</b>",
        workspace_name="漁港 & Söhne",
    )

    assert mails.deliver(delivery_id) == "sent"

    (raw,) = server.box.raw
    (message,) = server.box.messages()
    row = mails.row(delivery_id)
    assert server.box.recipients == ["grete@xn--bcher-kva.example.com"]
    assert message["To"] == "grete@xn--bcher-kva.example.com"
    assert message["From"] == "Käpten Ahab <mail@rag.example.com>"
    assert message["Subject"] == "Jürgen <b>Ω</b> lädt Sie zu 漁港 & Söhne ein"
    assert message["Message-ID"] == row.header_id == f"<{delivery_id}@rag.example.com>"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Content-Language"] == "de-DE"
    assert email.utils.parsedate_to_datetime(message["Date"]) == row.created_at.replace(
        microsecond=0
    )
    text, html = (message.get_body((kind,)).get_content() for kind in ("plain", "html"))
    assert "Jürgen <b>Ω</b> möchte mit Ihnen in 漁港 & Söhne" in text
    assert "http://localhost:3000/activate?token=tok%20en%261" in text
    assert "Jürgen &lt;b&gt;Ω&lt;/b&gt; möchte mit Ihnen in 漁港 &amp; Söhne" in html
    assert 'href="http://localhost:3000/activate?token=tok%20en%261"' in html
    assert not message.defects
    # A signature (DKIM) survives: 7-bit, short lines, CRLF and nothing else.
    assert raw.isascii()
    assert max(map(len, raw.split(b"\r\n"))) <= 78
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)", raw)

    assert (row.status, row.attempts, row.provider) == ("sent", 1, "smtp")
    assert row.provider_words == "250 queued as 1"
    assert (row.secrets, row.error, row.copies) == (None, None, 1)


def test_a_connection_serves_several_mails_and_one_that_was_closed_is_replaced(
    start_mail_server: StartMailServer, mails_to: MailsTo
) -> None:
    server = start_mail_server()
    mails = mails_to(server)
    for number in range(3):
        assert mails.deliver(mails.accept(to=f"a{number}@example.com")) == "sent"
    assert server.box.connections == 1

    again = server.again()
    try:
        assert mails.deliver(mails.accept(to="late@example.com")) == "sent"
    finally:
        again.stop()
    assert (server.box.connections, len(server.box.raw)) == (2, 4)


@pytest.mark.parametrize("fault", ["rcpt:421 closing", "rcpt:451 later", "data:452 no room"])
def test_what_the_server_puts_off_is_queued_again_and_sent_once(
    fault: str, start_mail_server: StartMailServer, mails_to: MailsTo
) -> None:
    server = start_mail_server()
    server.box.faults.append(fault)
    mails = mails_to(server)
    delivery_id = mails.accept()

    assert mails.deliver(delivery_id) is MailDeferred
    row = mails.row(delivery_id)
    assert (row.status, row.copies, row.lease_expires_at) == ("queued", 0, None)
    assert fault.partition(":")[2] in str(row.error)
    assert row.secrets is not None

    assert mails.deliver(delivery_id) == "sent"
    assert mails.row(delivery_id).attempts == 2
    assert len(server.box.raw) == 1


@pytest.mark.parametrize("fault", ["rcpt:550 no such user", "data:554 looks like spam"])
def test_what_the_server_refuses_fails_with_its_words(
    fault: str, start_mail_server: StartMailServer, mails_to: MailsTo
) -> None:
    server = start_mail_server()
    server.box.faults.append(fault)
    mails = mails_to(server)
    refused, fine = mails.accept(), mails.accept(to="grace@example.com")

    assert mails.deliver(refused) is MailRefused
    row = mails.row(refused)
    words = fault.partition(":")[2]
    assert (row.status, row.error, row.provider_words) == ("failed", words, words)
    assert row.ended_at is not None

    assert mails.deliver(fine) == "sent"
    assert mails.deliver(refused) == "failed", "a message that comes late changes nothing"
    assert server.box.recipients == ["grace@example.com"]


def test_a_wrong_password_fails_and_nothing_is_sent(
    start_mail_server: StartMailServer, mails_to: MailsTo
) -> None:
    server = start_mail_server("tls", auth=True)
    mails = mails_to(server, SMTP_PASSWORD="wrong")
    delivery_id = mails.accept()

    assert mails.deliver(delivery_id) is MailRefused

    assert str(mails.row(delivery_id).error).startswith("535 ")
    assert server.box.raw == []


@pytest.mark.parametrize("encryption", ["starttls", "tls"])
def test_a_certificate_of_another_name_fails_and_nothing_is_sent(
    encryption: str, start_mail_server: StartMailServer, mails_to: MailsTo
) -> None:
    server = start_mail_server(encryption, name="other.example.com")
    mails = mails_to(server)
    delivery_id = mails.accept()

    assert mails.deliver(delivery_id) is MailRefused

    row = mails.row(delivery_id)
    assert row.status == "failed"
    assert "certificate of localhost is not to be trusted" in str(row.error)
    assert server.box.raw == []


def test_a_server_without_starttls_gets_nothing(
    start_mail_server: StartMailServer, mails_to: MailsTo
) -> None:
    server = start_mail_server("none")
    mails = mails_to(server, SMTP_USE_TLS="true", SMTP_OPPORTUNISTIC_TLS="true")

    assert mails.deliver(mails.accept()) is MailRefused
    assert server.box.raw == []


def test_a_cut_before_the_final_dot_costs_nothing(
    start_mail_server: StartMailServer, mails_to: MailsTo
) -> None:
    server = start_mail_server()
    server.box.faults.append("cut-before-dot")
    mails = mails_to(server)
    delivery_id = mails.accept()

    assert mails.deliver(delivery_id) in {MailDeferred, MailUnconfirmed}

    assert mails.deliver(delivery_id) in {"sent", "resent"}
    assert len(server.box.raw) == 1


def test_a_cut_after_the_final_dot_is_unknown_then_resent_with_the_same_id(
    start_mail_server: StartMailServer, mails_to: MailsTo
) -> None:
    server = start_mail_server()
    server.box.faults.append("cut-after-dot")
    mails = mails_to(server)
    delivery_id = mails.accept()

    assert mails.deliver(delivery_id) is MailUnconfirmed
    row = mails.row(delivery_id)
    assert (row.status, row.copies) == ("unknown", 1)
    assert "did not confirm it" in str(row.error)

    assert mails.deliver(delivery_id) == "resent"
    assert mails.deliver(delivery_id) == "resent"
    assert len(server.box.raw) == 2
    assert server.box.raw[0] == server.box.raw[1], "a copy is a copy"
    assert set(server.box.ids()) == {f"<{delivery_id}@rag.example.com>"}


def test_two_copies_that_nobody_confirmed_are_the_last_and_fail_loudly(
    start_mail_server: StartMailServer, mails_to: MailsTo
) -> None:
    server = start_mail_server()
    server.box.faults += ["cut-after-dot", "cut-after-dot"]
    mails = mails_to(server)
    delivery_id = mails.accept()

    assert mails.deliver(delivery_id) is MailUnconfirmed
    assert mails.deliver(delivery_id) is AttemptsExhausted

    row = mails.row(delivery_id)
    assert row.status == "failed"
    assert "handed over twice and never confirmed" in str(row.error)
    assert mails.deliver(delivery_id) == "failed"
    assert len(server.box.raw) == 2


def test_a_resend_the_server_puts_off_stays_unknown_until_it_is_confirmed(
    start_mail_server: StartMailServer, mails_to: MailsTo
) -> None:
    server = start_mail_server()
    server.box.faults += ["cut-after-dot", "data:451 later"]
    mails = mails_to(server)
    delivery_id = mails.accept()

    assert mails.deliver(delivery_id) is MailUnconfirmed
    assert mails.deliver(delivery_id) is MailDeferred
    assert (mails.row(delivery_id).status, mails.row(delivery_id).copies) == ("unknown", 1)
    assert mails.deliver(delivery_id) == "resent"


@pytest.mark.parametrize(
    ("fault", "ends"), [("silence-before-dot", MailDeferred), ("silence", MailUnconfirmed)]
)
def test_silence_is_waited_for_no_longer_than_the_timeout(
    fault: str, ends: type, start_mail_server: StartMailServer, mails_to: MailsTo
) -> None:
    server = start_mail_server()
    server.box.faults.append(fault)
    mails = mails_to(server, MAIL_TIMEOUT_SECONDS="0.3")
    delivery_id = mails.accept()

    assert mails.deliver(delivery_id) is ends
    assert mails.deliver(delivery_id) == ("sent" if ends is MailDeferred else "resent")
    assert len(set(server.box.ids())) == 1


def test_a_server_that_is_not_there_is_tried_again(
    start_mail_server: StartMailServer, mails_to: MailsTo
) -> None:
    server = start_mail_server()
    server.stop()
    mails = mails_to(server)
    delivery_id = mails.accept()

    assert mails.deliver(delivery_id) is MailDeferred
    assert (mails.row(delivery_id).status, mails.row(delivery_id).copies) == ("queued", 0)
    again = server.again()
    try:
        assert mails.deliver(delivery_id) == "sent"
    finally:
        again.stop()


def test_a_server_that_takes_commands_at_once_gets_them_so_and_its_answers_mean_the_same(
    start_mail_server: StartMailServer, mails_to: MailsTo
) -> None:
    server = start_mail_server()
    server.box.pipelines = True
    mails = mails_to(server)
    server.box.faults += ["rcpt:550 no such user", "rcpt:451 later"]

    assert mails.deliver(refused := mails.accept(to="nobody@example.com")) is MailRefused
    assert mails.deliver(deferred := mails.accept(to="late@example.com")) is MailDeferred
    assert mails.deliver(deferred) == "sent"
    assert mails.row(refused).provider_words == "550 no such user"
    assert (server.box.connections, server.box.recipients) == (1, ["late@example.com"])

    server.box.faults += ["rcpt:550 no", "data-for-nobody"]
    assert mails.deliver(mails.accept(to="nobody@example.com")) is MailRefused
    assert mails.deliver(mails.accept(to="bo@example.com")) == "sent"
    assert server.box.connections == 2, "a server that waits for a mail is left"
    server.box.faults.append("cut-at-mail")
    assert mails.deliver(cut := mails.accept(to="cut@example.com")) is MailRefused
    assert mails.row(cut).provider_words == "550 not from you"
    assert mails.deliver(mails.accept(to="cy@example.com")) == "sent"
    assert server.box.recipients == [f"{one}@example.com" for one in ("late", "bo", "cy")]
