"""Mail by SMTP: plain, STARTTLS or TLS; connections are used again."""

import select
import smtplib
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from shared.errors import (
    ConfigurationError,
    MailDeferred,
    MailRefused,
    MailUnconfirmed,
)
from worker.providers.letter import Letter
from worker.providers.mailer import Receipt
from worker.providers.smtp_pool import ConnectionPool

_ACCEPTED, _GO_AHEAD, _CLOSING, _FOR_GOOD = 250, 354, 421, 500
_RECIPIENT_REPLIES = (250, 251)
#: To MAIL, RCPT and DATA.
_FINE_REPLIES = ((_ACCEPTED,), _RECIPIENT_REPLIES, (_GO_AHEAD,))
_WORDS_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where the mail goes and how.

    Attributes:
        encryption: ``tls`` from the first byte, ``starttls`` and never without, or ``none``.
        timeout_seconds: the longest silence that is waited for.
        ca_file: trusted instead of the system's authorities.
    """

    host: str
    port: int
    encryption: str = "tls"
    username: str = ""
    password: str = field(default="", repr=False)
    timeout_seconds: float = 30
    local_hostname: str = ""
    ca_file: Path | None = None
    verify_certificate: bool = True
    max_connections: int = 20


class SmtpMailer:
    """Sends through one server; safe to share between threads and greenlets.

    Args:
        server: which one.
    """

    name = "smtp"
    sends_key_once = False

    def __init__(self, server: SmtpServer) -> None:
        self._server = server
        self._pool = ConnectionPool(self._connect, server.max_connections, server.timeout_seconds)

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._pool.close()

    def send(
        self,
        letter: Letter,
        key: str,  # noqa: ARG002 - SMTP has no such thing; the Message-ID is the same
        hand_over: Callable[[], None],
    ) -> Receipt:
        """Send a mail; see ``Mailer``."""
        body = dotted(letter.as_bytes())
        with self._pool.borrowed() as lent:
            try:
                smtp = self._begin(lent.connection, letter, is_used=lent.is_used)
                if smtp is None:  # the server had closed it while it lay idle
                    smtp = lent.replace()
                    self._begin(smtp, letter, is_used=False)
                self._send_body(smtp, body)
            except (OSError, smtplib.SMTPException) as error:
                raise _deferred(self._server, error) from error
            hand_over()
            self._require_still_there(smtp)
            return self._end(smtp)

    def _begin(self, smtp: smtplib.SMTP, letter: Letter, *, is_used: bool) -> smtplib.SMTP | None:
        commands = [
            f"MAIL FROM:{smtplib.quoteaddr(letter.sender_address)}",
            f"RCPT TO:{smtplib.quoteaddr(letter.recipient)}",
            "DATA",
        ]
        # RFC 2920: the three in one packet, where the server takes them so.
        at_once = len(commands) if smtp.has_extn("pipelining") else 1
        try:
            code, words = _asked(smtp, commands[:at_once])
        except (OSError, smtplib.SMTPException):
            if is_used:
                return None
            raise
        if code == _CLOSING and is_used:
            return None
        if at_once > 1:
            return self._begun_at_once(smtp, code, words)
        _require(code == _ACCEPTED, code, words)
        code, words = _asked(smtp, commands[1:2])
        _require(code in _RECIPIENT_REPLIES, code, words)
        code, words = _asked(smtp, commands[2:])
        _require(code == _GO_AHEAD, code, words)
        return smtp

    def _begun_at_once(self, smtp: smtplib.SMTP, code: int, words: bytes) -> smtplib.SMTP:
        replies, lost = [(code, words)], None
        try:
            replies += [smtp.getreply() for _ in _FINE_REPLIES[1:]]
        except (OSError, smtplib.SMTPException) as error:
            lost = error
        for reply, fine in zip(replies, _FINE_REPLIES, strict=False):
            if reply[0] in fine:
                continue
            if lost is not None or replies[-1][0] == _GO_AHEAD:
                # It may wait for a mail that is for nobody: without a dot there is none.
                smtp.close()
            _require(False, *reply)  # noqa: FBT003
        if lost is not None:
            raise lost
        return smtp

    def _send_body(self, smtp: smtplib.SMTP, body: bytes) -> None:
        smtp.send(body)

    def _require_still_there(self, smtp: smtplib.SMTP) -> None:
        # Whatever it says or does before the final dot, it has not taken the mail.
        sock = smtp.sock
        try:
            if sock is not None and not select.select([sock], [], [], 0)[0]:
                return
            code, words = smtp.getreply()
        except (OSError, ValueError, smtplib.SMTPException) as error:
            raise _deferred(self._server, error) from error
        _require(False, max(code, _CLOSING), words)  # noqa: FBT003

    def _end(self, smtp: smtplib.SMTP) -> Receipt:
        try:
            smtp.send(b".\r\n")
            code, words = smtp.getreply()
        except (OSError, smtplib.SMTPException) as error:
            raise MailUnconfirmed(
                f"{self._server.host} took the mail and did not confirm it: {error}"
            ) from error
        _require(code == _ACCEPTED, code, words)
        return Receipt(_text(code, words))

    def _connect(self) -> smtplib.SMTP:
        server = self._server
        try:
            smtp = self._opened()
            try:
                # The mail and its dot are two packets: Nagle's algorithm would keep the dot
                # until the server's delayed acknowledgement, 40 ms later.
                if smtp.sock is not None:
                    smtp.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if server.encryption == "starttls":
                    smtp.starttls(context=self._tls())
                if server.username:
                    smtp.login(server.username, server.password)
                else:
                    smtp.ehlo_or_helo_if_needed()
            except BaseException:
                smtp.close()
                raise
        except ssl.SSLCertVerificationError as error:
            raise MailRefused(
                f"the certificate of {server.host} is not to be trusted, nothing was sent: "
                f"{error.verify_message or error}"
            ) from error
        except smtplib.SMTPResponseException as error:
            _require(False, error.smtp_code, error.smtp_error)  # noqa: FBT003
            raise
        except smtplib.SMTPNotSupportedError as error:
            raise MailRefused(f"{server.host}: {error}") from error
        except (OSError, smtplib.SMTPException) as error:
            raise _deferred(server, error) from error
        return smtp

    def _opened(self) -> smtplib.SMTP:
        server = self._server
        name = server.local_hostname or socket.gethostname()
        if server.encryption == "tls":
            return smtplib.SMTP_SSL(
                server.host,
                server.port,
                local_hostname=name,
                timeout=server.timeout_seconds,
                context=self._tls(),
            )
        return smtplib.SMTP(
            server.host, server.port, local_hostname=name, timeout=server.timeout_seconds
        )

    def _tls(self) -> ssl.SSLContext:
        server = self._server
        try:
            context = ssl.create_default_context(cafile=server.ca_file)
        except OSError as error:
            raise ConfigurationError(f"SMTP_CA_FILE: {server.ca_file}: {error}") from error
        if not server.verify_certificate:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def _asked(smtp: smtplib.SMTP, commands: list[str]) -> tuple[int, bytes]:
    """Send commands in one packet; the reply to the first."""
    if any(set("\r\n") & set(one) for one in commands):
        raise ValueError("a line break in an address")  # as smtplib has it: no commands in them
    smtp.send("".join(f"{one}\r\n" for one in commands))
    return smtp.getreply()


def dotted(message: bytes) -> bytes:
    """A message as DATA carries it: lines end in CRLF, a leading dot is doubled."""
    # By plain replacements: a pattern took longer over a mail than all the rest of its sending.
    lines = message.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    lines = (b"\r\n" + lines).replace(b"\n.", b"\n..")[2:]
    return lines if lines.endswith(b"\r\n") else lines + b"\r\n"


def _require(is_fine: bool, code: int, words: bytes | str) -> None:  # noqa: FBT001
    if is_fine:
        return
    if code >= _FOR_GOOD:
        raise MailRefused(_text(code, words))
    raise MailDeferred(_text(code, words))


def _text(code: int, words: bytes | str) -> str:
    plain = words.decode("utf-8", "replace") if isinstance(words, bytes) else words
    return f"{code} {' '.join(plain.split())}"[:_WORDS_CHARACTERS]


def _deferred(server: SmtpServer, error: Exception) -> MailDeferred:
    what = str(error) or type(error).__name__
    return MailDeferred(f"{server.host}:{server.port} did not take the mail: {what}")
