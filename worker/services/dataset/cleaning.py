"""Text is made storable and comparable; nothing a reader would miss is taken."""

import re
import unicodedata
from dataclasses import dataclass

from worker.services.dataset.addresses import without_addresses

# Control characters but tab and line feed, surrogates (PostgreSQL stores neither NUL nor those),
# the two noncharacters that broken extractors leave behind, and what is never seen but keeps
# words from being found: soft hyphen, zero-width space, word joiner, byte order mark. The
# joiners of emoji and of Persian stay, and so do ï, ¿ and ¾, which are letters.
_UNWANTED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b\u2060\ufeff\ud800-\udfff\ufffe\uffff]"
)
_UNWANTED_ASCII = bytes((*range(9), *range(0x0B, 0x20), 0x7F))
#: A vertical tab is Word's line break.
_LINE_ENDS = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_LINE_END_MARKS = "\r\x0b\x0c\x85\u2028\u2029"
_WIDE_SPACES = re.compile(r"[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
# Each begins where a run begins: a search from every space of a long run would be quadratic.
_TRAILING_SPACES = re.compile(r"(?<![ \t])[ \t]+$", re.MULTILINE)
# Not the single space that is one already: it is most of what there is. A search for two, and
# a look at what is before them, takes a tenth of a pattern that looks first.
_SPACES = re.compile("  +")
_INNER_SPACES = re.compile(r"(?<=[^ \t\n])(?: [ \t]+|\t[ \t]*)")
_INDENTATION = re.compile(r"^[ \t]+", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n{3,}")
_MAX_MARKS = 30
_MARKS = frozenset(mark for mark in map(chr, range(0x300, 0x1E950)) if unicodedata.combining(mark))
_MARK = f"[{''.join(sorted(_MARKS))}]"
_PILED_MARKS = re.compile(f"({_MARK}{_MARK}{{{_MAX_MARKS - 1}}}){_MARK}+")


@dataclass(frozen=True, slots=True)
class CleaningRule:
    """What is taken from a text beside what cannot be stored.

    Attributes:
        collapse_spaces: runs of white space become one; indentation as well.
        strip_addresses: addresses of the web and of mail go.
    """

    collapse_spaces: bool = False
    strip_addresses: bool = False


def clean(text: str) -> str:
    """Unify line ends, drop what cannot be stored, collapse runs of space and blank lines.

    Indentation stays: in Markdown and in code it has a meaning.
    """
    return _with_short_runs(_without_trailing_spaces(storable(text, narrow_spaces=True)))


def storable(text: str, *, narrow_spaces: bool = False) -> str:
    """Unify line ends and drop what cannot be stored or compared; no other character is touched.

    Args:
        text: anything.
        narrow_spaces: make each space of another width a plain one.
    """
    if any(mark in text for mark in _LINE_END_MARKS):
        text = _LINE_ENDS.sub("\n", text)
    if text.isascii():
        # As bytes, which takes a tenth of the patterns' time.
        return text.encode().translate(None, _UNWANTED_ASCII).decode()
    text = _UNWANTED.sub("", text)
    if narrow_spaces:
        text = _WIDE_SPACES.sub(" ", text)
    # Normalizing takes quadratic time in a run of marks: 64,000 of them took 2.4 s. Most
    # text has none, and asking that first is twenty times as fast as the search.
    if not _MARKS.isdisjoint(text):
        text = _PILED_MARKS.sub(r"\1", text)
    return unicodedata.normalize("NFC", text)


def prepare(text: str, rule: CleaningRule) -> str:
    """What a rule does to a text before it is cut at a separator.

    Blank lines and runs of spaces are still there: a separator may be made of them.
    """
    text = storable(text, narrow_spaces=rule.collapse_spaces)
    if rule.strip_addresses:
        text = without_addresses(text)
    return _without_trailing_spaces(text) if rule.collapse_spaces else text


def finish(text: str, rule: CleaningRule) -> str:
    """What a rule does to a piece that was cut."""
    if not rule.collapse_spaces:
        return text
    return _INDENTATION.sub(" ", _with_short_runs(text))


def _without_trailing_spaces(text: str) -> str:
    # Asking first costs a tenth of a search that finds nothing.
    if any(mark in text for mark in (" \n", "\t\n")) or text[-1:] in {" ", "\t"}:
        return _TRAILING_SPACES.sub("", text)
    return text


def _with_short_runs(text: str) -> str:
    if "\t" in text:
        text = _INNER_SPACES.sub(" ", text)
    elif "  " in text:
        text = _SPACES.sub(_one_space, text)
    return _BLANK_LINES.sub("\n\n", text) if "\n\n\n" in text else text


def _one_space(run: re.Match[str]) -> str:
    start = run.start()
    is_indentation = start == 0 or run.string[start - 1] == "\n"
    return run[0] if is_indentation else " "
