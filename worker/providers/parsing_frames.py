"""What a worker and its parsing child say to each other.

A frame is the lengths of its two parts, a small header as JSON and a payload of
raw bytes. The child opens with ``ready``. To each ``parse`` (payload: the file) it
answers with a ``block`` (payload: the text) for each block and then ``end``, or
with ``error`` (payload: the message) instead of what is left. Between them it may send
``log`` (payload: a line of its log) at any time.
"""

import struct
from enum import StrEnum
from typing import Any

import orjson

#: Bytes of the header, bytes of the payload.
LENGTHS = struct.Struct("!IQ")


#: Up to here a payload is copied behind its header: cheaper than a second call.
SMALL_BYTES = 64 * 1024


class Kind(StrEnum):
    """What a frame is."""

    READY = "ready"
    PARSE = "parse"
    BLOCK = "block"
    END = "end"
    ERROR = "error"
    LOG = "log"


def beginning(kind: str, payload_bytes: int = 0, **header: Any) -> bytes:
    """Everything of a frame that comes before its payload."""
    encoded = orjson.dumps({"kind": kind} | header)
    return LENGTHS.pack(len(encoded), payload_bytes) + encoded


def encoded_text(text: str) -> bytes:
    """Text as bytes, whatever is in it."""
    return text.encode("utf-8", errors="surrogatepass")


def decoded_text(payload: bytes | bytearray) -> str:
    """The text that :func:`encoded_text` was given."""
    return str(payload, "utf-8", "surrogatepass")
