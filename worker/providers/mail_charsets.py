"""The text parts of a mail in UTF-8: parsers know few other encodings."""

import re
from email import message_from_bytes
from email.message import EmailMessage, Message
from email.policy import default as mail_policy

from shared.errors import UnreadableFile

#: To parse a mail takes eight times its size: one that says UTF-8 throughout is passed on as it is.
_MAY_BE_OTHERWISE = re.compile(rb"""charset(?!\s*=\s*["']?(?:utf-8|us-ascii)\b)""", re.IGNORECASE)
_PARTS = re.compile(rb"(?:multipart|message)/", re.IGNORECASE)
#: More may be too many in one another, which only the parse can tell.
_MAX_PARTS = 50


def mail_as_utf8(content: bytes, name: str) -> bytes:
    """The mail with its text parts in UTF-8: parsers know few other encodings.

    Raises:
        UnreadableFile: mails are nested in it without end.
    """
    if not _MAY_BE_OTHERWISE.search(content) and len(_PARTS.findall(content)) <= _MAX_PARTS:
        return content
    try:
        mail = message_from_bytes(content, policy=mail_policy)
        return mail.as_bytes() if sum(_as_utf8(part) for part in mail.walk()) else content
    except RecursionError:
        raise UnreadableFile(f"{name} nests too many mails: upload them one by one") from None


def _as_utf8(part: Message) -> bool:
    """Whether ``part`` was text of another encoding, which it no longer is."""
    if not isinstance(part, EmailMessage) or part.get_content_maintype() != "text":
        return False
    if (part.get_content_charset() or "utf-8") in ("utf-8", "us-ascii"):
        return False
    try:
        text = part.get_content()
    except (LookupError, UnicodeError):
        return False
    part.set_content(text, subtype=part.get_content_subtype(), charset="utf-8")
    return True
