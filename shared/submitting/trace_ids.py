"""Ids of traces and spans: valid by W3C Trace Context, and the same again for the same thing.

An id that is valid already stays as it is; any other is hashed, so that a trace that is
recorded or sent twice has the same ids, and a receiver can tell.
"""

import hashlib
import re
from typing import Any
from uuid import UUID

_TRACE = re.compile("[0-9a-fA-F]{32}")
_SPAN = re.compile("[0-9a-fA-F]{16}")
_CHARACTERS = 512


def trace_id_of(given: Any) -> str:
    """32 lowercase hex digits, not all zero: of a UUID its own, of other text a hash.

    Raises:
        ValueError: it is no text, UUID or number, or is empty.
    """
    text = _text(given)
    # A UUID is as valid as it stands, without its dashes.
    plain = text.replace("-", "") if len(text) == 36 else text  # noqa: PLR2004 - a UUID's length
    if _TRACE.fullmatch(plain) and plain.strip("0"):
        return plain.lower()
    return _hashed("trace", text)[:32]


def span_id_of(trace_id: str, given: Any) -> str:
    """16 lowercase hex digits, not all zero; hashed together with the trace's id.

    Raises:
        ValueError: it is no text, UUID or number, or is empty.
    """
    text = _text(given)
    if _SPAN.fullmatch(text) and text.strip("0"):
        return text.lower()
    return _hashed("span", trace_id, text)[:16]


def _text(given: Any) -> str:
    if isinstance(given, bool) or not isinstance(given, str | UUID | int):
        raise ValueError(f"an id is text, a UUID or a number, not {type(given).__name__}")  # noqa: TRY004 - pydantic's
    text = str(given)
    if not text.strip() or len(text) > _CHARACTERS:
        raise ValueError(f"an id has 1 to {_CHARACTERS} characters")
    return text


def _hashed(*parts: str) -> str:
    joined = "\0".join(parts).encode("utf-8", "replace")
    digest = hashlib.sha256(joined).hexdigest()
    # All zero is no id; nobody will ever see this happen.
    return digest if digest[:16].strip("0") else _hashed(*parts, "")
