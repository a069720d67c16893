"""Bytes become text: piece by piece, in whatever encoding, or refused as no text at all."""

import codecs
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from typing import BinaryIO

from shared.errors import UnreadableFile
from worker.services.dataset.charset import WINDOW_BYTES, choose_encoding, utf16_without_mark

_PIECE_BYTES = 1 << 20
#: UTF-32 first: its little-endian mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
#: Word, Excel and PowerPoint until 2003, Outlook, and Office files behind a password.
OLE = "an old or encrypted Office file"
_KINDS = (
    (b"%PDF-", "a PDF"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"PK\x05\x06", "a ZIP archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", OLE),
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90\0", "a program"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\xfd7zXZ\0", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"SQLite format 3\0", "a database"),
)
_TEXT_CONTROLS = b"\t\n\v\f\r\x1b"
_CONTROLS = bytes(code for code in (*range(32), 127) if code not in _TEXT_CONTROLS)
#: Random bytes have a tenth of control characters; text has next to none.
_MAX_CONTROL_SHARE = 0.05
_MAX_REPLACED = 100
_MAX_REPLACED_SHARE = 0.05
_DECLARED = re.compile(rb"""(?:charset|encoding)\s*=\s*["']?\s*([A-Za-z0-9_.:-]+)""")
_DECLARED_BYTES = 4096


def kind_of(head: bytes) -> str | None:
    """What a well-known binary format begins like, in words; ``None`` for anything else."""
    return next((kind for mark, kind in _KINDS if head.startswith(mark)), None)


def is_text(head: bytes) -> bool:
    """Whether ``head``, the beginning of a file, can be text."""
    if kind_of(head):
        return False
    if _marked(head):
        return True
    controls = len(head) - len(head.translate(None, _CONTROLS))
    return controls <= _MAX_CONTROL_SHARE * len(head) or utf16_without_mark(head) is not None


def decoded(file: BinaryIO, name: str) -> Iterator[str]:
    """The file's text in pieces of about 1 MB.

    ASCII is passed on as it comes. The first piece with other bytes decides
    the encoding, however late it comes; every encoding it can choose reads
    ASCII alike. What does not fit it becomes U+FFFD.

    Raises:
        UnreadableFile: it is no text, or more than a twentieth of it does not fit.
    """
    piece = file.read(_PIECE_BYTES)
    head = piece[:WINDOW_BYTES]
    _require_text(head, name)
    encoding = _marked(head) or (_mostly_controls(head) and utf16_without_mark(head)) or None
    while encoding is None and piece.isascii() and b"\x1b" not in piece:
        yield piece.decode("ascii")
        piece = file.read(_PIECE_BYTES)
        if not piece:
            return
    if encoding is None:
        piece += file.read(WINDOW_BYTES)  # a piece may end one byte after it stops being ASCII
        encoding = _chosen(piece, name)
    decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
    replaced = total = 0
    for part in chain((piece,), iter(lambda: file.read(_PIECE_BYTES), b"")):
        text = decoder.decode(part)
        replaced, total = replaced + text.count("\ufffd"), total + len(text)
        if replaced > _MAX_REPLACED and replaced > _MAX_REPLACED_SHARE * total:
            raise UnreadableFile(
                f"{name} is not {encoding} throughout: save it in one encoding, best UTF-8"
            )
        yield text
    yield decoder.decode(b"", final=True)


def markup_as_utf8(content: bytes, name: str) -> bytes:
    """A whole HTML, XML, JSON or YAML file in UTF-8, which mostly is the one that was given.

    Raises:
        UnreadableFile: it is no text, or of no known encoding.
    """
    _require_text(content[:WINDOW_BYTES], name)
    if _is_plainly_utf8(content):
        return content
    return _decoded_markup(content, name).encode("utf-8", errors="replace")


def _is_plainly_utf8(content: bytes) -> bool:
    if _marked(content) or utf16_without_mark(content[:WINDOW_BYTES]) or b"\x1b" in content:
        return False
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(content), _PIECE_BYTES):
            decoder.decode(content[start : start + _PIECE_BYTES])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _decoded_markup(content: bytes, name: str) -> str:
    declared = _DECLARED.search(content[:_DECLARED_BYTES])
    for encoding in (
        _marked(content) or utf16_without_mark(content[:WINDOW_BYTES]),
        # Before what is declared: a file converted to it often keeps its old declaration. Text
        # with escapes is of an encoding that switches, whose bytes are all valid UTF-8.
        None if b"\x1b" in content else "utf-8",
        declared and declared[1].decode("ascii"),
    ):
        with suppress(LookupError, UnicodeError):
            if encoding:
                return content.decode(encoding)
    return content.decode(_chosen(content, name), errors="replace")


def _marked(head: bytes) -> str | None:
    return next((encoding for mark, encoding in _MARKS if head.startswith(mark)), None)


def _mostly_controls(head: bytes) -> bool:
    return b"\0" in head and not _is_utf8(head)


def _is_utf8(head: bytes) -> bool:
    controls = len(head) - len(head.translate(None, _CONTROLS))
    if controls > _MAX_CONTROL_SHARE * len(head):
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def _require_text(head: bytes, name: str) -> None:
    if not is_text(head):
        kind = kind_of(head) or "binary data"
        raise UnreadableFile(
            f"{name} is not text but {kind}: give it the ending of its format, or upload its text"
        )


def _chosen(piece: bytes, name: str) -> str:
    window = b"\n".join(
        line for line in piece.split(b"\n") if not line.isascii() or b"\x1b" in line
    )
    encoding = choose_encoding(window[:WINDOW_BYTES])
    if encoding is None:
        raise UnreadableFile(f"{name} is not text in any known encoding: save it as UTF-8")
    return encoding
