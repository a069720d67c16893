"""Where cutting begins anew: places that the text nearby decides on, and nothing else.

A passage ends where the one before it has left room to. So one line more would move all that
follow it, and a re-index would embed them all again, if nothing stopped that. An anchor is
the best place to begin within a reach to either side: a heading before a blank line, a line, a
sentence, a word; among equals the text that begins there decides, by its hash.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from zlib import crc32

from worker.providers.parser import Block

#: Looking for anchors begins when so much has been gathered: blocks may be short.
_GATHERED_CHARACTERS = 64 * 1024
#: Text that repeats itself has no anchors; more than this of it is not kept.
_HELD_CHARACTERS = 512 * 1024
#: The text at a place that its hash is made of, and that a pattern looks at.
_LOOK_BACK, _LOOK_AHEAD = 16, 32

#: The longest that a pattern looks ahead.
_MARK = 8

_HEADING = re.compile(r"\n(?=#{1,6}[ \t])")
_PLACES = (
    re.compile(r"\n\n(?=[^\n])"),
    re.compile(r"\n(?=[^\n])"),
    re.compile(r"[.!?] (?=\S)|[\u3002\uff01\uff1f](?=\S)"),
    re.compile(r"\s(?=\S)"),
)

#: How good a place is, by its kind and its hash, the least is best; the first and the last such.
_Place = tuple[tuple[int, int], int, int]


def stretches(blocks: Iterable[Block], reach: int) -> Iterator[tuple[Block, str]]:
    """Cut blocks at their anchors, in a stream; blocks without pages are one text.

    Args:
        blocks: the document, in order.
        reach: characters; an anchor is the best place within it, the next one is farther away.

    Yields:
        Each stretch, and the text before it.
    """
    before = ""
    held: Block | None = None
    for block in blocks:
        if held is None:
            held = block
        elif _goes_on(held, block):
            held = replace(held, text=held.text + block.text)
        else:
            yield from _stretches(held, before, reach)
            before, held = "", block
        if held.page is None and len(held.text) >= _GATHERED_CHARACTERS:
            *done, (held, before) = _stretches(held, before, reach)
            yield from done
            if len(held.text) > _HELD_CHARACTERS:
                yield held, before
                before, held = "", None
    if held is not None:
        yield from _stretches(held, before, reach)


def _stretches(block: Block, before: str, reach: int) -> Iterator[tuple[Block, str]]:
    text, start = block.text, 0
    for end in (*_anchors(block, reach), len(text)):
        yield replace(block, text=text[start:end]), before
        before, start = text[start:end], end


def _anchors(block: Block, reach: int) -> Iterator[int]:
    """The anchors whose reach to either side is within the block, which begins at one."""
    text = block.text
    places = (_HEADING, *_PLACES) if block.is_markdown else _PLACES
    limit = len(text) - reach - _LOOK_AHEAD
    if limit <= reach:
        return
    encoded = text.encode("utf-32-le", "surrogatepass")  # a character is four bytes
    last = start = at = 0
    best: tuple[int, int] | None = None
    while start < limit:
        found = _best(text, encoded, places, start, start + reach)
        if found is not None and (best is None or found[0] < best):
            best, at, _ = found
            start = at
            continue
        if best is not None:
            # It is better than all before it back to ``last``, which was no worse than it.
            if at - last > reach:
                yield at
            last = at
        if found is None:
            best, start = None, start + reach
        else:
            # Of equals the last: text that repeats itself is walked through in long steps.
            best, _, at = found
            start = at


def _best(
    text: str, encoded: bytes, patterns: Sequence[re.Pattern[str]], start: int, end: int
) -> _Place | None:
    """The best place after ``start`` and up to ``end``, if there is any."""
    for kind, pattern in enumerate(patterns):
        found = pattern.finditer(text, max(start - 1, 0), end + _MARK)
        places = [
            (crc32(encoded[max(at - _LOOK_BACK, 0) * 4 : (at + _LOOK_AHEAD) * 4]), at)
            for one in found
            if start < (at := one.end()) <= end
        ]
        if places:
            least = min(places)[0]
            equals = [at for mark, at in places if mark == least]
            return (kind, least), equals[0], equals[-1]
    return None


def _goes_on(held: Block, block: Block) -> bool:
    return (
        held.page is None
        and block.page is None
        and held.is_markdown == block.is_markdown
        and held.text.endswith("\n")
    )
