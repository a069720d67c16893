"""Mails by Resend and SendGrid: what a real HTTP server gets, and what its answers become."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from shared.errors import AttemptsExhausted, MailDeferred, MailRefused, MailUnconfirmed
from tests.fixtures.mails import SENDER, Mails, MailsTo


@dataclass
class Provider:
    """Answers in turn, then with success; ``cut`` takes the mail and says nothing."""

    url: str = ""
    answers: list[tuple[int, str, dict[str, str]] | str] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)


@pytest.fixture
def provider() -> Iterator[Provider]:
    served = Provider()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            served.requests.append((self.path, dict(self.headers.items()), body))
            answer = served.answers.pop(0) if served.answers else (200, '{"id": "re_1"}', {})
            if isinstance(answer, str):
                self.close_connection = True
                return
            code, text, headers = answer
            self.send_response(code)
            for name, value in ({"X-Message-Id": "sg_1"} | headers).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield served
    server.shutdown()
    thread.join()
    server.server_close()


def mails_by(kind: str, provider: Provider, mails_to: MailsTo) -> Mails:
    name = kind.upper()
    return mails_to(
        MAIL_TYPE=kind,
        MAIL_DEFAULT_SEND_FROM=SENDER,
        **{f"{name}_API_KEY": "k3y", f"{name}_API_URL": provider.url},
    )


def test_resend_gets_both_parts_and_one_key_for_all_copies(
    provider: Provider, mails_to: MailsTo
) -> None:
    mails = mails_by("resend", provider, mails_to)
    delivery_id = mails.accept("reset_password", code="482913", language="fr-FR")
    provider.answers += ["cut", "cut", (504, "gateway", {})]

    for _ in range(3):
        assert mails.deliver(delivery_id) is MailUnconfirmed
        assert mails.row(delivery_id).status == "unknown"
    assert mails.deliver(delivery_id) == "resent"

    row = mails.row(delivery_id)
    assert (row.provider, row.provider_id, row.copies) == ("resend", "re_1", 1)
    assert {request[1]["Idempotency-Key"] for request in provider.requests} == {str(delivery_id)}
    path, headers, body = provider.requests[0]
    assert (path, headers["Authorization"]) == ("/emails", "Bearer k3y")
    assert body["to"] == ["ada@example.com"]
    assert body["from"] == SENDER
    assert body["subject"] == "Choisissez un nouveau mot de passe rag-worker"
    assert "482913" in body["html"]
    assert "482913" in body["text"]
    assert body["headers"]["Message-ID"] == row.header_id == f"<{delivery_id}@rag.example.com>"


def test_sendgrid_gets_both_parts_and_at_most_one_more_copy(
    provider: Provider, mails_to: MailsTo
) -> None:
    mails = mails_by("sendgrid", provider, mails_to)
    sent, lost = mails.accept(), mails.accept(to="bo@example.com")
    provider.answers += [(202, "", {}), "cut", (502, "bad gateway", {})]

    assert mails.deliver(sent) == "sent"
    assert mails.deliver(lost) is MailUnconfirmed
    assert mails.deliver(lost) is AttemptsExhausted

    assert mails.row(sent).provider_id == "sg_1"
    assert "handed over twice" in str(mails.row(lost).error)
    path, _, body = provider.requests[0]
    assert path == "/v3/mail/send"
    assert body["personalizations"] == [{"to": [{"email": "ada@example.com"}]}]
    assert body["from"] == {"email": "mail@rag.example.com", "name": "Käpten Ahab"}
    assert [part["type"] for part in body["content"]] == ["text/plain", "text/html"]
    assert len(provider.requests) == 3


def test_answers_are_put_off_or_final_as_they_say(provider: Provider, mails_to: MailsTo) -> None:
    mails = mails_by("resend", provider, mails_to)
    later, refused, away = (mails.accept(to=f"a{one}@example.com") for one in range(3))
    provider.answers += [
        (429, "slow down", {"Retry-After": "7"}),
        (500, "oops", {}),
        (409, '{"name": "concurrent_idempotent_requests"}', {}),
    ]

    waits = []
    for _ in range(3):
        assert mails.deliver(later) is MailDeferred
        waits.append((mails.row(later).status, mails.row(later).copies))
    assert waits == [("queued", 0)] * 3
    assert mails.deliver(later) == "sent"

    provider.answers.append((422, '{"message": "invalid\r\nsender"}', {}))
    assert mails.deliver(refused) is MailRefused
    assert mails.row(refused).provider_words == '422 {"message": "invalid sender"}'

    gone = mails_by("sendgrid", Provider(url="http://127.0.0.1:1"), mails_to)
    assert gone.deliver(away) is MailDeferred
    assert gone.row(away).status == "queued"
