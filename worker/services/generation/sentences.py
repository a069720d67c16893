"""Sentences of a text: English and its kin by their stops, Chinese and Japanese by theirs.

What is no prose (code, tables, rules, directives, links alone) is left out, so that what is
picked can be read. A sentence is the text's own words; only white space is made one.
"""

import re
from collections.abc import Iterator

_FENCE = re.compile(r"^\s*(```|~~~)")
#: Markup that stands alone: tables, images, HTML, directives, underlines, headings.
_NO_PROSE = re.compile(
    r"^\s*(\||!\[|\[!\[|<|\.\. |:\w+:|#{1,6}\s|>>> |\$ |[=\-~^\"'*+#_`]{3,}\s*$|\+[-=+]+)"
)
_ITEM = re.compile(r"^\s{0,8}([-*+•·]|\(?\d{1,3}[.)、])\s+")
_QUOTE = re.compile(r"^\s*>\s?")
_UNDERLINE = re.compile(r"^\s*([=\-~^\"'*+#_`])\1{2,}\s*$")
_SIGNS = re.compile(r"[{}=<>|\\@$;]|__|\(\)|::")
_INDENTED = re.compile(r"^(\t| {4,})\S")
_EMPHASIS = re.compile(r"(?<![\w*])\*{1,3}(?=\S)|(?<=\S)\*{1,3}(?![\w*])")

_WIDE = r"\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef"
_CLOSING = r"\"'”’)）」』】》\]"  # noqa: RUF001 - what closes a sentence in these scripts
#: Where a sentence may end; what comes before and after decides.
_WRAPPED = re.compile(rf"(?<=[{_WIDE}]) (?=[{_WIDE}])")
_STOP = re.compile(rf"[。！？；!?…]+[{_CLOSING}]*|\.+[{_CLOSING}]*(?=\s|$)")  # noqa: RUF001 - likewise
_WIDE_STOPS = frozenset("。！？；")  # noqa: RUF001 - likewise
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\"'“‘])(?:mr|mrs|ms|dr|prof|st|sr|jr|vs|etc|e\.g|i\.e|cf|al|fig|figs|eq|no|nos|vol|"  # noqa: RUF001 - likewise
    r"pp|p|ch|sec|approx|ca|inc|ltd|co|corp|dept|est|u\.s|u\.k|a\.m|p\.m|z\.b|bzw|[a-z])\.$",
    re.IGNORECASE,
)
_WORD = re.compile(rf"[^\W\d_{_WIDE}]+|[{_WIDE}]")
_URL = re.compile(r"https?://\S+|\S+\.(?:svg|png|gif)\b")

_LEAST_WORDS = 4
_LEAST_WIDE_CHARACTERS = 6
#: Of a sentence's characters that are letters; below it is a formula, a path, a table.
_LEAST_LETTERS = 0.6
#: A text without a stop for so long is cut into pieces that no sentence is.
_LONGEST_CHARACTERS = 2000
#: Signs of code that prose may hold.
_MOST_SIGNS = 3
#: A line of an Eastern script that is shorter, and ends without a stop, is a heading.
_HEADING_CHARACTERS = 20


def sentences(text: str) -> Iterator[str]:
    """The sentences of a text's prose, in order."""
    for block in _blocks(text):
        yield from (one for one in _split(block) if is_prose(one))


def all_pieces(text: str) -> Iterator[str]:
    """Sentences, and what is none by its lines: where a text holds nothing else."""
    for line in text.splitlines():
        yield from (one for one in _split(" ".join(line.split())) if _WORD.search(one))


def is_prose(sentence: str) -> bool:
    """Whether somebody could have said it."""
    if not 0 < len(sentence) <= _LONGEST_CHARACTERS or sentence.endswith((":", "：")):  # noqa: RUF001 - likewise
        return False
    bare = _URL.sub("", sentence)
    words = _WORD.findall(bare)
    wide = sum(len(one) == 1 and ord(one) >= 0x2E80 for one in words)  # noqa: PLR2004 - the first of _WIDE
    if len(words) - wide < _LEAST_WORDS and wide < _LEAST_WIDE_CHARACTERS:
        return False
    if len(_SIGNS.findall(sentence)) > _MOST_SIGNS:
        return False
    solid = sum(not one.isspace() for one in sentence)
    return sum(map(len, words)) >= _LEAST_LETTERS * solid


def joined(found: list[str]) -> str:
    """Sentences as one text: with a space between them, where their script has one."""
    text = ""
    for one in found:
        is_wide = text[-1:] in _WIDE_STOPS or (text and ord(text[-1]) >= 0x2E80)  # noqa: PLR2004 - the first of _WIDE
        text += one if not text or is_wide else f" {one}"
    return text


def _blocks(text: str) -> Iterator[str]:
    """Paragraphs and list items, each on one line."""
    lines: list[str] = []
    is_code = was_apart = False
    for raw in text.splitlines():
        line = _QUOTE.sub("", raw)
        if _FENCE.match(line):
            is_code = not is_code
        elif is_code:
            continue
        if _UNDERLINE.match(line) and len(lines) == 1:
            lines = []  # what is underlined is a heading
        item = _ITEM.match(line)
        is_literal = was_apart and not item and _INDENTED.match(line) is not None
        is_apart = is_literal or is_code or _stands_apart(line)
        if item or is_apart:
            yield from _block(lines)
            lines = []
        if not is_apart:
            lines.append(line[item.end() :] if item else line)
        was_apart = is_literal or not line.strip()
    yield from _block(lines)


def _stands_apart(line: str) -> bool:
    """Whether a line is no part of a paragraph: empty, markup, a heading."""
    bare = line.strip()
    if not bare or _NO_PROSE.match(line) or _FENCE.match(line) or bare.isupper():
        return True
    is_wide = ord(bare[-1]) >= 0x2E80  # noqa: PLR2004 - the first of _WIDE
    return is_wide and len(bare) < _HEADING_CHARACTERS and not _STOP.search(bare[-2:])


def _block(lines: list[str]) -> Iterator[str]:
    text = _WRAPPED.sub("", " ".join(" ".join(lines).split()))
    if text:
        yield _EMPHASIS.sub("", text)


def _split(text: str) -> Iterator[str]:
    start = 0
    for stop in _STOP.finditer(text):
        if _ends(text, start, stop):
            yield text[start : stop.end()].strip()
            start = stop.end()
    if rest := text[start:].strip():
        yield rest


def _ends(text: str, start: int, stop: re.Match[str]) -> bool:
    if stop.group()[0] in _WIDE_STOPS:
        return True
    after = text[stop.end() :].lstrip()
    if not after:
        return True
    if text[stop.end()] not in " \t" and ord(text[stop.end()]) < 0x2E80:  # noqa: PLR2004 - the first of _WIDE
        return False
    if after[0].islower():
        return False
    return not (stop.group()[0] == "." and _ABBREVIATION.search(text[start : stop.end()]))
