"""CSV and its kin as ``column: value`` lines, so that a row is found by what its columns mean."""

import csv
import io
import re
from collections.abc import Iterator
from itertools import chain

from shared.errors import UnreadableFile

_DELIMITERS = ",;\t|"
_SAMPLE_ROWS = 20
_SAMPLE_CHARACTERS = 64 * 1024
_MAX_LINE_CHARACTERS = 16 * 1024**2
#: A longer field is a quote that nobody closed; the csv module's own limit is 128 KB.
_MAX_FIELD_CHARACTERS = 4 * 1024**2
#: A longer column name would repeat itself in every row.
_MAX_COLUMN_CHARACTERS = 200
_SEPARATOR_LINE = re.compile(r"sep=(.)\n")

csv.field_size_limit(_MAX_FIELD_CHARACTERS)


def table_lines(pieces: Iterator[str], name: str, delimiter: str) -> Iterator[str]:
    """One line a row: its cells, each after its column's name.

    Args:
        pieces: the file's text.
        name: the file's name, for messages.
        delimiter: what its ending promises; another one is taken if the first rows show it.

    Raises:
        UnreadableFile: a field or a line has no end.
    """
    filled = (row for _, row in numbered_rows(pieces, name, delimiter))
    columns = [cell.strip()[:_MAX_COLUMN_CHARACTERS] for cell in next(filled, [])]
    is_header_only = True
    for row in filled:
        is_header_only = False
        yield _row_line(columns, row)
    if is_header_only and columns:
        yield ", ".join(filter(None, columns))


def numbered_rows(
    pieces: Iterator[str], name: str, delimiter: str, *, is_strict: bool = False
) -> Iterator[tuple[int, list[str]]]:
    """The rows that hold anything, each with its number from 1; blank ones are counted.

    Args:
        pieces: the file's text.
        name: the file's name, for messages.
        delimiter: what its ending promises; another one is taken if the first rows show it.
        is_strict: refuse a quote that is not closed before the file ends or in the middle of
            a cell: it would take the rows behind it for one.

    Raises:
        UnreadableFile: a field or a line has no end.
    """
    first = next(pieces, "")
    for piece in pieces:
        first += piece
        if len(first) >= _SAMPLE_CHARACTERS:
            break
    delimiter, first = _sniffed(first.lstrip("\ufeff"), delimiter)
    lines = _lines(chain((first,), pieces), name)
    rows = csv.reader(lines, delimiter=delimiter, strict=is_strict)
    number = 0
    try:
        for number, row in enumerate(rows, 1):
            if any(cell.strip() for cell in row):
                yield number, row
    except csv.Error as error:
        raise UnreadableFile(
            f"{name}, row {number + 1}, seen in line {rows.line_num}: not a table ({error}): "
            "look for an unclosed quote"
        ) from None


def _row_line(columns: list[str], row: list[str]) -> str:
    cells = (cell.strip() for cell in row)
    named = zip(chain(columns, iter(str, None)), cells, strict=False)
    return "; ".join(f"{column}: {cell}" if column else cell for column, cell in named if cell)


def _sniffed(text: str, promised: str) -> tuple[str, str]:
    """The delimiter whose rows are most even, and the text without Excel's ``sep=`` line."""
    sample = text[:_SAMPLE_CHARACTERS].replace("\r\n", "\n")
    if found := _SEPARATOR_LINE.match(sample):
        return found[1], text.split("\n", 1)[1]
    lines = sample.split("\n")[:_SAMPLE_ROWS]
    candidates = [promised, *_DELIMITERS.replace(promised, "")]
    return max(candidates, key=lambda delimiter: _evenness(lines, delimiter)), text


def _evenness(lines: list[str], delimiter: str) -> float:
    try:
        widths = [len(row) for row in csv.reader(lines, delimiter=delimiter) if row]
    except csv.Error:
        return 0.0
    if not widths or widths[0] == 1:
        return 0.0
    return sum(width == widths[0] for width in widths) / len(widths)


def _lines(pieces: Iterator[str], name: str) -> Iterator[str]:
    newlines = io.IncrementalNewlineDecoder(None, translate=True)
    held: list[str] = []
    held_characters = 0
    for piece in pieces:
        # Translated so that a bare CR ends a line too; NUL is an error to the csv module.
        *whole, rest = newlines.decode(piece.replace("\0", "")).split("\n")
        for line in whole:
            yield "".join((*held, line, "\n"))
            held, held_characters = [], 0
        held.append(rest)
        held_characters += len(rest)
        if held_characters > _MAX_LINE_CHARACTERS:
            raise UnreadableFile(
                f"{name} has a line of more than {_MAX_LINE_CHARACTERS:,} characters: "
                "not a table; upload it as .txt"
            )
    if any(held):
        yield "".join(held)
