"""A mail as providers get it, and as bytes for a mail server.

The standard library's ``EmailMessage`` parses every header that it is given and every
one that it writes: with a hundred senders in one process that was a fifth of their CPU.
Here it makes the headers that need it, once each; the rest is put together.
"""

import binascii
import re
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from functools import lru_cache

_PLAIN_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9.-]+")
#: RFC 5322 wants lines of a header to be no longer than that.
_LINE_CHARACTERS = 78


@dataclass(frozen=True, slots=True)
class Letter:
    """One mail to one address.

    Attributes:
        sender_name: shown beside the address.
        recipient: in ASCII.
        header_id: the Message-ID, in its brackets.
        boundary: between the parts; the same in every copy.
    """

    sender_name: str
    sender_address: str
    recipient: str
    subject: str
    text: str
    html: str
    language: str
    accepted_at: datetime
    header_id: str
    boundary: str

    @property
    def sender(self) -> str:
        """Name and address as one header has them, in plain Unicode."""
        return str(Address(self.sender_name, addr_spec=self.sender_address))

    @property
    def own_headers(self) -> dict[str, str]:
        """What a provider that writes the usual headers itself has to add."""
        return {
            "Message-ID": self.header_id,
            # Out-of-office programs must not answer, as RFC 3834 has it.
            "Auto-Submitted": "auto-generated",
            "Content-Language": self.language,
        }

    def as_bytes(self) -> bytes:
        """The whole message, its lines ending in CRLF; every copy is the same."""
        boundary = self.boundary.encode("ascii")
        own = "".join(f"{name}: {value}\r\n" for name, value in self.own_headers.items())
        return b"".join(
            (
                _folded("Subject", self.subject),
                _from(self.sender_name, self.sender_address),
                _to(self.recipient),
                f"Date: {format_datetime(self.accepted_at)}\r\n{own}".encode("ascii"),
                b"MIME-Version: 1.0\r\n",
                b'Content-Type: multipart/alternative;\r\n boundary="%b"\r\n' % boundary,
                b"\r\n--%b\r\n" % boundary,
                _part("plain", self.text),
                b"--%b\r\n" % boundary,
                _part("html", self.html),
                b"--%b--\r\n" % boundary,
            )
        )


def _part(subtype: str, text: str) -> bytes:
    lines = text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n") + "\n"
    # Lines of at most 76 characters: nothing on the way breaks them, nor a signature.
    printable = binascii.b2a_qp(lines.encode("utf-8", "replace")).replace(b"\n", b"\r\n")
    head = f'Content-Type: text/{subtype}; charset="utf-8"\r\n'
    return (head + "Content-Transfer-Encoding: quoted-printable\r\n\r\n").encode() + printable


def _to(address: str) -> bytes:
    if _PLAIN_ADDRESS.fullmatch(address):
        return f"To: {address}\r\n".encode("ascii")
    return _encoded("To", Address(addr_spec=address))


@lru_cache(maxsize=8)
def _from(name: str, address: str) -> bytes:
    return _encoded("From", Address(name, addr_spec=address))


@lru_cache(maxsize=256)
def _folded(name: str, value: str) -> bytes:
    # What looks like an encoded word is the library's business.
    is_plain = value.isascii() and value.isprintable() and "=?" not in value
    if is_plain and value.strip() == value and len(name) + 2 + len(value) <= _LINE_CHARACTERS:
        return f"{name}: {value}\r\n".encode("ascii")
    return _encoded(name, value)


def _encoded(name: str, value: "str | Address") -> bytes:
    message = EmailMessage(SMTP)
    message[name] = value
    return SMTP.fold_binary(name, message[name])
