"""Mails as bytes: read by the standard library, they say what went in."""

import email
import email.policy
from datetime import UTC, datetime
from typing import Any

import pytest

from worker.providers.letter import Letter

TEXT = "h\u00e9llo\n.dot\n" + "x" * 200 + "\ntrailing \nFrom me\n\u2028\x0csep =3D\n.\n..\nend"


def letter(**others: Any) -> Letter:
    values: dict[str, Any] = {
        "sender_name": "K\u00e4pten Ahab",
        "sender_address": "mail@example.com",
        "recipient": "ada@example.com",
        "subject": "Your code",
        "text": TEXT,
        "html": "<p>\u00f6 = 1</p>\r\n<b>\tx </b>",
        "language": "de-DE",
        "accepted_at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "header_id": "<x@example.com>",
        "boundary": "=_" + 32 * "a",
    }
    return Letter(**values | others)


@pytest.mark.parametrize(
    "others",
    [
        {},
        {"subject": "W\u00f6rter " * 40 + "ende"},
        {"subject": "many words " * 20 + "end"},
        {"subject": "\u6f01\u6e2f" * 40},
        {"subject": "=?utf-8?q?no_encoded_word?= but =?"},
        {"subject": ""},
        {"sender_name": 'Ahab, A. "Captain"'},
        {"sender_name": ""},
        {"recipient": '"a b"@example.com'},
    ],
    ids=lambda others: next(iter(others), "plain"),
)
def test_what_went_in_comes_out(others: dict[str, str]) -> None:
    sent = letter(**others)
    raw = sent.as_bytes()
    message: Any = email.message_from_bytes(raw, policy=email.policy.default)

    assert not [defect for part in message.walk() for defect in part.defects]
    if "=?" not in sent.subject:
        assert message["Subject"] == sent.subject
    assert message["From"].addresses[0].display_name == sent.sender_name
    assert message["From"] == sent.sender
    assert message["To"].addresses[0].addr_spec == sent.recipient
    assert message["Date"].datetime == sent.accepted_at
    assert {name: message[name] for name in sent.own_headers} == sent.own_headers
    text, html = (message.get_body((kind,)).get_content() for kind in ("plain", "html"))
    assert text.replace("\r\n", "\n") == sent.text
    assert html == sent.html
    assert raw.isascii()
    assert raw.count(b"\r\n") == raw.count(b"\n") == raw.count(b"\r")
    assert max(map(len, raw.split(b"\r\n"))) <= 78
