"""Which encoding text without a mark is in, told from its bytes.

charset-normalizer alone takes French for Central European and two Chinese
characters for Big5, so it is asked last: first come the forms that prove
themselves (UTF-8, ISO-2022-JP), then how usual each East Asian reading is.
"""

import codecs
import re
from functools import cache

from charset_normalizer import from_bytes

WINDOW_BYTES = 64 * 1024

_HIGH_RUN = re.compile(rb"[\x80-\xff]+")
#: Well-formed UTF-8 of two bytes and more; surrogates too, as Java and Windows programs write them.
_UTF8 = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_HIGH = re.compile(rb"[\x80-\xff]")
#: High bytes that stand alone among ASCII: accents in Western words. CJK and Cyrillic come in runs.
_WESTERN_SHARE = 0.7
_USUAL_SHARE = 0.8
#: Below this many characters Korean and Chinese syllables cannot be told apart.
_KOREAN_CHARACTERS = 10
#: Typographic quotes and dashes (U+20xx) and signs that stand between Western letters.
_WESTERN = frozenset(
    "ªº°§«»€£©®¿¡·½\u2018\u2019\u201a\u201c\u201d\u201e\u2013\u2014\u2022\u2026\u00d7"
)
_SINGLE_BYTE = ["cp1251", "koi8_r", "cp1253", "cp1255", "cp1256", "cp874", "cp1250", "iso8859_2"]
#: Lead bytes of everyday characters and punctuation, and trail bytes; the first wins a tie.
_EAST_ASIAN = {
    "gb18030": ((range(0xA1, 0xA4), range(0xB0, 0xD8)), range(0xA1, 0xFF)),
    "big5": ((range(0xA1, 0xC7),), range(0x40, 0xFF)),
    "cp932": ((range(0x81, 0x84), range(0x88, 0x98)), range(0x40, 0xFD)),
    "euc_jp": ((range(0xA1, 0xA6), range(0xB0, 0xD0)), range(0xA1, 0xFF)),
    "cp949": ((range(0xA1, 0xA4), range(0xB0, 0xC9)), range(0xA1, 0xFF)),
}


def choose_encoding(window: bytes) -> str | None:
    """The encoding of ``window``: lines that hold bytes above ASCII; ``None`` if nothing fits."""
    if b"\x1b$" in window:
        return "iso2022_jp"
    high = len(_HIGH.findall(window))
    in_utf8 = sum(len(match) for match in _UTF8.findall(window))
    if in_utf8 * 2 >= high:
        return "utf-8"
    alone = sum(len(run) == 1 for run in _HIGH_RUN.findall(window))
    if alone >= _WESTERN_SHARE * high:
        return "cp1252" if _reads_western(window) else _single_byte(window) or "cp1252"
    return _east_asian(window) or _single_byte(window)


def utf16_without_mark(head: bytes) -> str | None:
    """``utf-16-le`` or ``utf-16-be`` if ``head`` reads as one of them, else ``None``."""
    if b"\0" not in head:
        return None
    shares = {name: _usual_share(head, name) for name in ("utf-16-le", "utf-16-be")}
    best = max(shares, key=lambda name: shares[name])
    return best if shares[best] >= _USUAL_SHARE else None


def _usual_share(head: bytes, name: str) -> float:
    try:
        text = codecs.getincrementaldecoder(name)().decode(head)
    except UnicodeDecodeError:
        return 0.0
    # U+xx00 is what ASCII becomes when its bytes are swapped.
    usual = sum(
        (character.isprintable() and bool(ord(character) & 0xFF)) or character in "\n\r\t一"
        for character in text
    )
    ascii_marks = sum(character in " \n\r\t,.\uff0c。、" for character in text)
    return usual / max(len(text), 1) if ascii_marks else 0.0


def _reads_western(window: bytes) -> bool:
    text = window.decode("cp1252", errors="replace")
    high = [character for character in text if ord(character) >= 0x80]  # noqa: PLR2004  beyond ASCII
    usual = sum(character.isalpha() or character in _WESTERN for character in high)
    return usual >= _USUAL_SHARE * len(high)


def _east_asian(window: bytes) -> str | None:
    best, best_share = None, _USUAL_SHARE
    for name in _EAST_ASIAN:
        try:
            text = codecs.getincrementaldecoder(name)().decode(window)
        except UnicodeDecodeError:
            continue
        high = [character for character in text if not character.isascii()]
        share = sum(character in _usual(name) for character in high) / max(len(high), 1)
        is_korean = name == "cp949" and share >= best_share and len(high) >= _KOREAN_CHARACTERS
        if share > best_share or is_korean:
            best, best_share = name, share
    return best


@cache
def _usual(name: str) -> frozenset[str]:
    leads, trails = _EAST_ASIAN[name]
    pairs = (bytes((lead, trail)) for part in leads for lead in part for trail in trails)
    return frozenset(pair.decode(name, errors="ignore") for pair in pairs) - {""}


def _single_byte(window: bytes) -> str | None:
    best = from_bytes(window, cp_isolation=_SINGLE_BYTE).best()
    return best.encoding if best else None
