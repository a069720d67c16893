"""Mail by HTTP: Resend and SendGrid."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from shared.errors import MailDeferred, MailRefused, MailUnconfirmed
from worker.providers.letter import Letter
from worker.providers.mailer import Receipt
from worker.providers.retry_after import retry_after_seconds

#: Nothing has been sent when one of these is raised.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
#: Said before the mail was looked at, or instead of taking it.
_LATER = {408, 425, 429, 500, 503}
#: Resend: the first request with this key is still being worked on.
_CONFLICT = 409
_SUCCESS, _CLIENT_ERROR = range(200, 300), range(300, 500)
_WORDS_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class MailService:
    """Where the mail goes and with which key; ``max_connections`` of each process."""

    url: str
    api_key: str = field(repr=False)
    timeout_seconds: float = 30
    max_connections: int = 20


class _HttpMailer:
    """One POST a mail.

    Args:
        service: where to.
    """

    name = ""
    path = ""
    sends_key_once = False

    def __init__(self, service: MailService) -> None:
        self._service = service
        self._clients: dict[int, httpx.Client] = {}

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            client.close()

    def send(self, letter: Letter, key: str, hand_over: Callable[[], None]) -> Receipt:
        """Send a mail; see ``Mailer``."""
        content, headers = self._content(letter), self._headers(key)
        hand_over()
        try:
            answer = self._client().post(self.path, json=content, headers=headers)
        except _NOT_SENT as error:
            raise MailDeferred(f"{self.name} was not reached: {error}") from error
        except httpx.HTTPError as error:
            what = str(error) or type(error).__name__
            raise MailUnconfirmed(f"{self.name} took the mail, no answer came: {what}") from error
        return self._receipt(answer)

    def _content(self, letter: Letter) -> dict[str, Any]:
        raise NotImplementedError

    def _headers(self, key: str) -> dict[str, str]:  # noqa: ARG002 - not all have such keys
        return {}

    def _provider_id(self, answer: httpx.Response) -> str | None:
        raise NotImplementedError

    def _receipt(self, answer: httpx.Response) -> Receipt:
        code = answer.status_code
        words = f"{code} {' '.join(answer.text.split())}"[:_WORDS_CHARACTERS]
        if code in _SUCCESS:
            provider_id = self._provider_id(answer)
            return Receipt(words, provider_id and provider_id[:255])
        if code in _LATER or (code == _CONFLICT and "concurrent" in words):
            asked = retry_after_seconds(answer.headers)
            raise MailDeferred(words, retry_after_seconds=asked)
        if code in _CLIENT_ERROR:
            raise MailRefused(words)
        # A gateway between may have lost the answer of a provider that took it.
        raise MailUnconfirmed(words)

    def _client(self) -> httpx.Client:
        # A fork's own: a connection that two processes use carries nonsense.
        pid = os.getpid()
        client = self._clients.get(pid)
        if client is None:
            service = self._service
            client = self._clients[pid] = httpx.Client(
                base_url=service.url,
                headers={"Authorization": f"Bearer {service.api_key}"},
                timeout=service.timeout_seconds,
                limits=httpx.Limits(max_connections=service.max_connections),
            )
        return client


class ResendMailer(_HttpMailer):
    """https://resend.com/docs/api-reference/emails/send-email."""

    name = "resend"
    sends_key_once = True
    path = "/emails"

    def _content(self, letter: Letter) -> dict[str, Any]:
        return {
            "from": letter.sender,
            "to": [letter.recipient],
            "subject": letter.subject,
            "html": letter.html,
            "text": letter.text,
            "headers": letter.own_headers,
        }

    def _headers(self, key: str) -> dict[str, str]:
        return {"Idempotency-Key": key}

    def _provider_id(self, answer: httpx.Response) -> str | None:
        try:
            found = answer.json()
        except ValueError:
            return None
        return str(found["id"]) if isinstance(found, dict) and "id" in found else None


class SendGridMailer(_HttpMailer):
    """https://www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send."""

    name = "sendgrid"
    path = "/v3/mail/send"

    def _content(self, letter: Letter) -> dict[str, Any]:
        name = letter.sender_name
        return {
            "personalizations": [{"to": [{"email": letter.recipient}]}],
            "from": {"email": letter.sender_address} | ({"name": name} if name else {}),
            "subject": letter.subject,
            "content": [
                {"type": "text/plain", "value": letter.text},
                {"type": "text/html", "value": letter.html},
            ],
            "headers": letter.own_headers,
        }

    def _provider_id(self, answer: httpx.Response) -> str | None:
        found: str | None = answer.headers.get("X-Message-Id")
        return found
