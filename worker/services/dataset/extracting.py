"""Files become blocks of text; text and CSV stream, other formats are given to a parser whole."""

from collections.abc import Iterator
from pathlib import PurePath
from typing import BinaryIO

from shared.errors import EmptyFile, UnreadableFile
from worker.providers.parser import Block, Parser
from worker.services.dataset import archives
from worker.services.dataset.breaks import last_break
from worker.services.dataset.decoding import (
    OLE,
    decoded,
    is_text,
    kind_of,
    markup_as_utf8,
)
from worker.services.dataset.limits import Limits, require
from worker.services.dataset.tables import numbered_rows, table_lines
from worker.services.dataset.xml_limits import require_small_xml

__all__ = [
    "BLOCK_CHARACTERS",
    "Limits",
    "asked_of_parser",
    "extract",
    "extract_rows",
    "is_markup",
    "is_table",
]

BLOCK_CHARACTERS = 512 * 1024
_HEAD_BYTES = 64 * 1024
_PLAIN = frozenset({".txt", ".text", ".log", ".rst", ".jsonl", ".ndjson"})
_MARKDOWN = frozenset({".md", ".markdown", ".mdx"})
_TABLES = {".csv": ",", ".tsv": "\t"}
_MARKUP = frozenset({".html", ".htm", ".xhtml", ".xml", ".json", ".yaml", ".yml"})
_XML = frozenset({".xml"})
#: Formats that are neither markup nor an archive, and the kind their content is known by.
_PARSED = {
    ".pdf": "a PDF",
    ".doc": OLE,
    ".xls": OLE,
    ".ppt": OLE,
    ".msg": OLE,
    ".eml": None,
    ".rtf": None,
}
_HTML_BEGINNINGS = (b"<!doctype html", b"<html")
_MAX_NAME_CHARACTERS = 100


def extract(
    file: BinaryIO, name: str, size_bytes: int, limits: Limits, parser: Parser
) -> Iterator[Block]:
    """Read a file as blocks of text, in order.

    Args:
        file: seekable, open for reading at its start.
        name: its name; the ending tells the format, the rest is for messages.
        size_bytes: its length.
        limits: what it may cost.
        parser: for formats that are parsed whole.

    Raises:
        EmptyFile: it has no text.
        EncryptedFile: it needs a password.
        LimitExceeded: it passes one of ``limits``; the message names the setting.
        UnreadableFile: nothing can read it.
    """
    name = _shown(name)
    _require_size(size_bytes, name, limits)
    is_empty = True
    for block in _blocks(file, name, size_bytes, limits, parser):
        if block.text and not block.text.isspace():
            is_empty = False
            yield block
    if is_empty:
        raise EmptyFile(
            f"{name} holds no text: upload one that does; a scan needs text recognition first"
        )


def asked_of_parser(content: bytes, name: str, limits: Limits) -> tuple[bytes, str]:
    """What ``extract`` asks its parser about a small file of ``is_markup``.

    Raises:
        UnreadableFile: (permanent) it would not ask at all.
    """
    name = _shown(name)
    return _checked(content, name, PurePath(name).suffix.lower(), limits), name


def is_markup(name: str) -> bool:
    """Whether the name's ending says HTML or its kin, whose text is no longer than the file."""
    return PurePath(name).suffix.lower() in _MARKUP


def is_table(name: str) -> bool:
    """Whether the name's ending says that the file is CSV or its kin."""
    return PurePath(name).suffix.lower() in _TABLES


def extract_rows(
    file: BinaryIO, name: str, size_bytes: int, limits: Limits, *, is_strict: bool = False
) -> Iterator[tuple[int, list[str]]]:
    """Read a table's rows that hold anything, each with its number from 1, as a spreadsheet counts.

    Args:
        file: seekable, open for reading at its start.
        name: its name, for which ``is_table`` holds.
        size_bytes: its length.
        limits: what it may cost.
        is_strict: refuse quotes that take several rows for one.

    Raises:
        EmptyFile: it has no bytes.
        LimitExceeded: it is too large.
        UnreadableFile: it is no table.
    """
    delimiter = _TABLES[PurePath(name).suffix.lower()]
    name = _shown(name)
    _require_size(size_bytes, name, limits)
    return numbered_rows(decoded(file, name), name, delimiter, is_strict=is_strict)


def _require_size(size_bytes: int, name: str, limits: Limits) -> None:
    if size_bytes == 0:
        raise EmptyFile(f"{name} has 0 bytes: upload a file with content")
    require(size_bytes, limits.file_bytes, name, "bytes", "INDEXING_MAX_FILE_BYTES")


def _blocks(
    file: BinaryIO, name: str, size_bytes: int, limits: Limits, parser: Parser
) -> Iterator[Block]:
    ending = PurePath(name).suffix.lower()
    if ending in _TABLES:
        lines = table_lines(decoded(file, name), name, _TABLES[ending])
        yield from _cut((line + "\n" for line in lines), is_markdown=False)
    elif ending in _PLAIN or ending in _MARKDOWN or _is_unnamed_text(file, ending):
        yield from _cut(decoded(file, name), is_markdown=ending in _MARKDOWN)
    else:
        # The content has no name here, which would keep it for as long as blocks are read.
        yield from parser.parse(
            _checked(_whole(file, name, size_bytes, limits), name, ending, limits), name
        )


def _whole(file: BinaryIO, name: str, size_bytes: int, limits: Limits) -> bytes:
    most = limits.parsed_file_bytes
    # Room for all that is asked for is made first: 100 MB for each page take longer than reading.
    content = file.read(min(size_bytes, most) + 1)
    if size_bytes < len(content) <= most:
        content += file.read(most + 1 - len(content))
    require(len(content), most, name, "bytes", "INDEXING_MAX_PARSED_FILE_BYTES")
    return content


def _is_unnamed_text(file: BinaryIO, ending: str) -> bool:
    """Whether a file of no known ending is text: README, Makefile, main.py."""
    if ending in archives.ENDINGS or ending in _MARKUP or ending in _PARSED:
        return False
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    return is_text(head) and not _is_html(head)


def _is_html(content: bytes) -> bool:
    return content[:_HEAD_BYTES].lstrip().lower().startswith(_HTML_BEGINNINGS)


def _checked(content: bytes, name: str, ending: str, limits: Limits) -> bytes:
    """What the parser may see: harmless, of the kind its ending says, text as UTF-8."""
    if ending in archives.ENDINGS:
        archives.require_harmless(content, name, limits)
        if ending == ".epub":
            archives.require_shallow_chapters(content, name)
    elif ending in _MARKUP or (ending not in _PARSED and _is_html(content)):
        markup = markup_as_utf8(content, name)
        if ending in _XML:
            require_small_xml([markup], name)
        return markup
    elif ending != ".eml":
        _require_kind(content, name, ending)
    return content


def _require_kind(content: bytes, name: str, ending: str) -> None:
    kind = kind_of(content)
    expected = _PARSED.get(ending, "a PDF")
    if kind == expected or (kind is None and ending in _PARSED):
        return
    if kind and "archive" in kind and ending not in _PARSED:
        raise UnreadableFile(f"{name} is {kind}: unpack it and upload the files in it")
    raise UnreadableFile(
        f"{name} is {kind or 'binary data'} and no format that can be read: "
        "give it the ending of its format, or upload its text"
    )


def _cut(pieces: Iterator[str], *, is_markdown: bool) -> Iterator[Block]:
    held: list[str] = []
    characters = 0
    for piece in pieces:
        held.append(piece)
        characters += len(piece)
        if characters < BLOCK_CHARACTERS:
            continue
        text, start = "".join(held), 0
        while len(text) - start >= BLOCK_CHARACTERS:
            end = last_break(text, start, BLOCK_CHARACTERS)
            yield Block(text[start:end], is_markdown)
            start = end
        held, characters = [text[start:]], len(text) - start
    if characters:
        yield Block("".join(held), is_markdown)


def _shown(name: str) -> str:
    """The name on one line, without folders; of a very long one, its beginning and its end."""
    last = PurePath(name.replace("\\", "/")).name
    # The joiner of emoji is not printable, but a name may hold it.
    shown = "".join(mark if mark.isprintable() or mark == "\u200d" else " " for mark in last)
    shown = " ".join(shown.split())
    if not shown.strip("."):
        return "the file"
    if len(shown) <= _MAX_NAME_CHARACTERS:
        return shown
    return f"{shown[: _MAX_NAME_CHARACTERS // 2]}…{shown[-_MAX_NAME_CHARACTERS // 2 + 1 :]}"
