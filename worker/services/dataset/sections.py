"""Blocks are cut at a separator, or joined to whole documents; both in a stream."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from worker.providers.parser import Block
from worker.services.dataset.breaks import last_break

#: More than any segment may have: a stretch without a separator is not kept for longer.
_HELD_CHARACTERS = 256 * 1024


def cut_at(blocks: Iterable[Block], separator: str) -> Iterator[Block]:
    """The stretches between separators, in order; blank ones are left out.

    A stretch that began in one block goes on in the next, unless a page ends there:
    a streamed file comes in blocks that end anywhere.
    """
    held: Block | None = None
    for block in blocks:
        joined = block
        if held is not None and _goes_on(held, block):
            joined = replace(held, text=held.text + block.text)
        elif held is not None:
            yield from _filled(held)
        *whole, rest = joined.text.split(separator)
        for text in whole:
            yield from _filled(replace(joined, text=text))
        start = 0
        while len(rest) - start > _HELD_CHARACTERS:
            # What follows may complete a separator that has begun: its characters stay.
            size = min(len(rest) - start - len(separator) + 1, _HELD_CHARACTERS)
            end = last_break(rest, start, size)
            yield from _filled(replace(joined, text=rest[start:end]))
            start = end
        held = replace(joined, text=rest[start:])
    if held is not None:
        yield from _filled(held)


def whole(blocks: Iterable[Block], max_characters: int) -> Iterator[Block]:
    """The document as one block; a longer one as several of up to ``max_characters``."""
    held: Block | None = None
    for block in blocks:
        if held is None:
            held = block
        else:
            between = "" if _goes_on(held, block) else "\n\n"
            is_markdown = held.is_markdown or block.is_markdown
            held = Block(held.text + between + block.text, is_markdown, held.page)
        start = 0
        while len(held.text) - start > max_characters:
            end = last_break(held.text, start, max_characters)
            yield from _filled(replace(held, text=held.text[start:end]))
            start = end
            held = replace(held, page=block.page)
        held = replace(held, text=held.text[start:])
    if held is not None:
        yield from _filled(held)


def _goes_on(held: Block, block: Block) -> bool:
    return held.page is None and block.page is None


def _filled(block: Block) -> Iterator[Block]:
    if block.text and not block.text.isspace():
        yield block
