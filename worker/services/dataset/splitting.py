"""Text becomes passages: sized by characters, verified by the embedder's tokens.

Splitting by a tokenizer callback measured 0.28 MB/s, by characters 40 MB/s: so
the characters a token takes are measured on a sample, and only what turns out
too long is split again.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from semantic_text_splitter import MarkdownSplitter, TextSplitter

from worker.providers.parser import Block

#: From the start, the middle and the end: pages begin with lists and end in tables.
_SAMPLES = 3
_SAMPLE_CHARACTERS = 300
#: Aim below the limit: a sample is only an estimate.
_MARGIN = 0.9
#: How far a sample speaks for what follows it.
_MEASURED_CHARACTERS = 16 * 1024
#: The splitter looks for the end of a sentence up to the end of its text, for every passage:
#: 512 KB of CJK without one took 80 s in one go. Text with sentences is as fast in windows.
_WINDOW_PASSAGES = 16


@dataclass(frozen=True, slots=True)
class SplitRule:
    """How long a passage may be.

    Attributes:
        max_tokens: of the embedder's tokens.
        overlap_tokens: repeated from the passage before.
    """

    max_tokens: int = 300
    overlap_tokens: int = 30


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage of a document; ``page`` from 1, where the format has pages."""

    text: str
    page: int | None
    is_markdown: bool


def split(
    blocks: Iterable[Block], rule: SplitRule, count_tokens: Callable[[str], int]
) -> Iterator[Passage]:
    """Cut blocks into passages of about ``rule.max_tokens``, at headings and sentences.

    No passage is empty, and nothing but white space between two of them is lost.
    """
    for block in blocks:
        for text in _passages(block, rule, count_tokens):
            yield Passage(text, block.page, block.is_markdown)


def split_again(passage: Passage, tokens: int, rule: SplitRule) -> Iterator[Passage]:
    """Cut a passage that has ``tokens`` tokens, more than the rule allows.

    Every piece is shorter than the passage; one character is given back as it is.
    """
    text = passage.text
    capacity = max(int(len(text) * rule.max_tokens / tokens * _MARGIN), 1)
    pieces = _splitter(capacity, 0, is_markdown=passage.is_markdown).chunks(text)
    for piece in pieces:
        if piece.strip():
            yield replace(passage, text=piece)


def _passages(block: Block, rule: SplitRule, count_tokens: Callable[[str], int]) -> Iterator[str]:
    text, start, measured_to = block.text, 0, 0
    while start < len(text):
        if start >= measured_to:
            measured_to = start + _MEASURED_CHARACTERS
            sample = _sample(text[start:measured_to].strip())
            if not sample:
                start = measured_to
                continue
            characters_per_token = len(sample) / max(count_tokens(sample), 1)
            capacity = max(int(rule.max_tokens * characters_per_token * _MARGIN), 1)
            overlap = min(int(rule.overlap_tokens * characters_per_token), capacity - 1)
            splitter = _splitter(capacity, overlap, is_markdown=block.is_markdown)
        window = text[start : start + capacity * _WINDOW_PASSAGES]
        chunks = splitter.chunk_indices(window)
        if start + len(window) < len(text) and len(chunks) > 1:
            # The window ends inside the last chunk: it is cut again with what follows it.
            restart, _ = chunks.pop()
            start += restart
        else:
            start += len(window)
        yield from (chunk for _, chunk in chunks if chunk.strip())


def _sample(text: str) -> str:
    if len(text) <= _SAMPLES * _SAMPLE_CHARACTERS:
        return text
    step = (len(text) - _SAMPLE_CHARACTERS) // (_SAMPLES - 1)
    return " ".join(
        text[number * step : number * step + _SAMPLE_CHARACTERS] for number in range(_SAMPLES)
    )


def _splitter(capacity: int, overlap: int, *, is_markdown: bool) -> MarkdownSplitter | TextSplitter:
    kind = MarkdownSplitter if is_markdown else TextSplitter
    return kind(capacity, overlap)
