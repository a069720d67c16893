"""What must not be read in logs, spans and error reports, whoever wrote it there."""

import json
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

MASK = "***"
#: Secrets that come along while the process runs are forgotten in their order.
_MOST_LEARNED = 512
#: Shorter ones would be found in words that are none.
_SHORTEST = 6

_KEYS = (
    r"api[_-]?key|apikey|passw(?:or)?d|passwd|secret|secret[_-]?key|access[_-]?key|private[_-]?key"
    r"|auth[_-]?token|access[_-]?token|refresh[_-]?token|token|authorization|cookie|credentials?"
    r"|signature|x-amz-signature|sig"
)
_SECRET_KEY = re.compile(rf"(?i)(?:^|[_.-])(?:{_KEYS})$")
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # A login in a URL, up to the last @ before a space or a quote; a port is none.
    (re.compile(r"(?<=://)[^\s/\"'<>@]*:(?!\d{1,5}[/?])[^\s\"'<>]*(?=@)"), MASK),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}"), rf"\1 {MASK}"),
    # name=value, "name": "value"; not a placeholder of SQL.
    (
        re.compile(
            rf"(?i)(?<![a-z0-9])(?<!lease_)((?:{_KEYS})(?![a-z0-9])[\"']?\s*[=:]\s*(?:b?[\"'])?)"
            r"(?![\s%:*(]|None\b|null\b|\d{1,5}\b)[^\s\"'&,;)}\]]+"
        ),
        rf"\1{MASK}",
    ),
    (re.compile(r"(?i)\b(code[\"']?\s*[=:]\s*[\"']?)\d{4,10}\b"), rf"\1{MASK}"),
    (re.compile(r"\b(?:sk|pk|rk)-[\w-]{8,}"), MASK),
    # A JSON web token, and what ``shared.submitting.sealing`` makes.
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?|\bgAAAA[\w-]{20,}={0,2}"), MASK),
    # PostgreSQL's DETAIL repeats the values of the row; SQLAlchemy the parameters.
    (re.compile(r"(Key \([^)\n]*\)=)\([^\n]*?\)(?= |$)"), rf"\1({MASK})"),
    (re.compile(r"(Failing row contains )\([^\n]*\)"), rf"\1({MASK})"),
    # Its excerpt of a statement has the values in it; in a repr the line ends with a backslash.
    (re.compile(r"(LINE \d+: )[^\n\\]*"), rf"\1{MASK}"),
    (re.compile(r"(invalid input (?:syntax|value) for [^:\n]+: )\"[^\n]*?\""), rf"\1{MASK}"),
    (re.compile(r"(\[parameters: )[^\n]*\]"), rf"\1{MASK}]"),
)
_MAIL_ADDRESS = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}")

_learned: "OrderedDict[str, re.Pattern[str]]" = OrderedDict()
_configured: dict[str, re.Pattern[str]] = {}


def learn_settings(settings: Any) -> None:
    """Know every secret of the settings: an instance of ``Settings``."""
    for group in (getattr(settings, one.name) for one in fields(settings)):
        for name in type(group).model_fields:
            value = getattr(group, name)
            if isinstance(value, SecretStr):
                for secret in _parts(value.get_secret_value()):
                    _configured[secret] = _whole(secret)


def learn(value: Any) -> None:
    """Know the texts in what was sealed: passwords, keys, codes."""
    if isinstance(value, Mapping):
        value = value.values()
    if isinstance(value, str):
        if len(value) >= _SHORTEST and "://" not in value and value not in _configured:
            _learned[value] = _whole(value)
            if len(_learned) > _MOST_LEARNED:
                _learned.popitem(last=False)
    elif isinstance(value, Iterable) and not isinstance(value, bytes):
        for one in value:
            learn(one)


def redacted(text: str, *, mail_addresses: bool = False) -> str:
    """The text without secrets; without mail addresses too, for what leaves the house."""
    for known in (_configured, _learned):
        for secret, pattern in known.copy().items():
            if secret in text:
                text = pattern.sub(MASK, text)
    for pattern, shown in _PATTERNS:
        text = pattern.sub(shown, text)
    return _MAIL_ADDRESS.sub(MASK, text) if mail_addresses else text


def redacted_value(value: Any, *, mail_addresses: bool = False) -> Any:
    """The same of whatever JSON can say; values under telling names are masked whole."""
    if isinstance(value, str):
        return redacted(value, mail_addresses=mail_addresses)
    if isinstance(value, Mapping):
        return {
            key: MASK
            if isinstance(key, str) and isinstance(one, str) and _SECRET_KEY.search(key)
            else redacted_value(one, mail_addresses=mail_addresses)
            for key, one in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [redacted_value(one, mail_addresses=mail_addresses) for one in value]
    return value


def _parts(value: str) -> Iterable[str]:
    """A secret setting's secrets: the password of a URL, the values of JSON or of headers."""
    if "://" in value:
        found = _of_urls(value)
    elif value[:1] in "[{":
        found = _of_json(value)
    elif re.fullmatch(r"[\w-]+=[^,]+(,[\w-]+=[^,]+)*", value):
        found = [value, *(pair.partition("=")[2] for pair in value.split(","))]
    else:
        found = [value]
    return [one for one in found if len(one) >= _SHORTEST]


def _of_urls(value: str) -> list[str]:
    found = []
    for piece in value.split(";"):
        parts = urlsplit(piece)
        # The login of a default, which is in every other word, says nothing.
        names = {parts.username, parts.hostname, parts.path.strip("/")}
        if parts.password and parts.password not in names:
            found += [parts.password, unquote(parts.password)]
    return found


def _of_json(value: str) -> list[str]:
    try:
        found = json.loads(value)
    except ValueError:
        return [value]
    values = found.values() if isinstance(found, dict) else found
    return (
        [one for one in values if isinstance(one, str)] if isinstance(found, (dict, list)) else []
    )


def _whole(secret: str) -> re.Pattern[str]:
    # Never a part of a longer word or number.
    return re.compile(rf"(?<!\w){re.escape(secret)}(?!\w)")
