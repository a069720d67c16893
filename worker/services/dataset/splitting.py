"""Text becomes passages: sized by characters, verified by the embedder's tokens.

Splitting by a tokenizer callback measured 0.28 MB/s, by characters 40 MB/s: so
the characters a token takes are measured on a sample, and only what turns out
too long is split again. Both cut and sample begin anew at each anchor, so that an edit
changes the passages near it and no others.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from semantic_text_splitter import MarkdownSplitter, TextSplitter

from worker.providers.parser import Block
from worker.services.dataset.anchors import stretches
from worker.services.dataset.breaks import MARKS
from worker.services.dataset.sections import cut_at

#: From the start and the end: pages begin with lists and end in tables.
_SAMPLES = 2
_SAMPLE_CHARACTERS = 200
#: Aim below the limit: a sample is only an estimate.
_MARGIN = 0.93
#: An anchor is the best place in so many characters to either side, for each token of a passage:
#: a stretch from one to the next holds eight passages of English.
_REACH_PER_TOKEN = 16
#: Characters a token are rounded to a power of it.
_STEP = 1.0625
#: How far a sample speaks for what follows it.
_MEASURED_CHARACTERS = 16 * 1024
#: The splitter looks for the end of a sentence up to the end of its text, for every passage:
#: 512 KB of CJK without one took 80 s in one go. Text with sentences is as fast in windows.
_WINDOW_PASSAGES = 16

CountTokens = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class SplitRule:
    """How long a passage may be.

    Attributes:
        max_tokens: of the embedder's tokens.
        overlap_tokens: repeated from the passage before.
        separator: where every passage ends; those in between that fit stay whole.
    """

    max_tokens: int = 300
    overlap_tokens: int = 30
    separator: str | None = None


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage of a document.

    Attributes:
        text: what is found by.
        page: from 1, where the format has pages.
        is_markdown: whether headings and lists in it guide the split.
        answer: what is found, where the text is a question.
        children: its parts, where they are embedded in its place.
        tokens: of one with children, counted when it was cut.
    """

    text: str
    page: int | None
    is_markdown: bool
    answer: str | None = None
    children: "tuple[Passage, ...]" = ()
    tokens: int = 0


def split(
    blocks: Iterable[Block],
    rule: SplitRule,
    count_tokens: CountTokens,
    finish: Callable[[str], str] = str,
    scale: "Scale | None" = None,
) -> Iterator[Passage]:
    """Cut blocks into passages of about ``rule.max_tokens``.

    At the rule's separator if it has one; what is too long then, and everything
    without one, at headings and sentences. No passage is empty, and nothing but
    separators and white space between two of them is lost.

    Args:
        blocks: the document, in order.
        rule: where and how long.
        count_tokens: the embedder's.
        finish: what is to be done to a piece once it is cut at the separator.
        scale: of the same document, where it is split in many calls.
    """
    if rule.separator is None:
        done = (replace(block, text=finish(block.text)) for block in blocks)
        for stretch, before in stretches(done, rule.max_tokens * _REACH_PER_TOKEN):
            for text in _passages(stretch, rule, count_tokens, before):
                yield Passage(text, stretch.page, stretch.is_markdown)
        return
    scale = scale or Scale(count_tokens)
    for section in cut_at(blocks, rule.separator):
        whole = replace(section, text=finish(section.text).strip("\n").rstrip())
        if scale.fits(whole.text, rule.max_tokens):
            texts = iter([whole.text] if whole.text.strip() else [])
        else:
            texts = _passages(whole, rule, count_tokens)
        for text in texts:
            yield Passage(text, section.page, section.is_markdown)


class Scale:
    """Tells whether a text fits, for many short ones: counting each would cost more than cutting.

    What seems to be far from the limit is believed to fit; what does not is found after embedding.
    """

    def __init__(self, count_tokens: CountTokens) -> None:
        self._count_tokens = count_tokens
        self._characters_per_token = 1.0
        self._measured_characters = 0

    def fits(self, text: str, max_tokens: int) -> bool:
        """Whether the text has at most ``max_tokens``, as far as can be told at this price."""
        self._measured_characters -= len(text)
        if self._measured_characters < 0:
            sample = _sample(text.strip())
            self._characters_per_token = len(sample) / max(self._count_tokens(sample), 1)
            self._measured_characters = _MEASURED_CHARACTERS
        capacity = max_tokens * self._characters_per_token
        if len(text) <= capacity / 2:
            return True
        return len(text) <= capacity * 2 and self._count_tokens(text) <= max_tokens


def split_again(passage: Passage, tokens: int, rule: SplitRule) -> Iterator[Passage]:
    """Cut a passage that has ``tokens`` tokens, more than the rule allows.

    Every piece is shorter than the passage; one character is given back as it is.
    """
    text = passage.text
    capacity = max(int(len(text) * rule.max_tokens / tokens * _MARGIN), 1)
    pieces = _cut(text, capacity, 0, is_markdown=passage.is_markdown)
    for _, piece in pieces:
        if piece.strip():
            yield replace(passage, text=piece)


def _passages(
    stretch: Block, rule: SplitRule, count_tokens: CountTokens, before: str = ""
) -> Iterator[str]:
    """Cut a stretch by what is in it, and by the end of the text before it, which is repeated."""
    sample = _sample(stretch.text.strip())
    if not sample:
        return
    characters_per_token = _rounded(len(sample) / max(count_tokens(sample), 1))
    capacity = max(int(rule.max_tokens * characters_per_token * _MARGIN), 1)
    overlap = min(int(rule.overlap_tokens * characters_per_token), capacity - 1)
    repeated = _end_of(before, overlap)
    text, start = repeated + stretch.text, 0
    while start < len(text):
        window = text[start : start + capacity * _WINDOW_PASSAGES]
        chunks = _cut(window, capacity, overlap, is_markdown=stretch.is_markdown)
        if start + len(window) < len(text) and len(chunks) > 1:
            # The window ends inside the last chunk: it is cut again with what follows it.
            restart, _ = chunks.pop()
        else:
            restart = len(window)
        for at, chunk in chunks:
            # One that ends before the stretch begins is in the passage before it already.
            if chunk.strip() and start + at + len(chunk) > len(repeated):
                yield chunk
        start += restart


def _rounded(characters_per_token: float) -> float:
    """To a coarse step, that a few words more or less do not move every boundary of a stretch."""
    steps = round(math.log(characters_per_token) / math.log(_STEP))
    return float(_STEP**steps)


def _end_of(text: str, size: int) -> str:
    """Of the last ``size`` characters what follows the first blank line, or line, or sentence."""
    if not text or not size:
        return ""
    start = max(len(text) - size, 0)
    tail = text[start:]
    for mark in MARKS:
        found = tail.find(mark)
        if found != -1 and tail[found + len(mark) :].strip():
            return tail[found + len(mark) :]
    return tail


def _sample(text: str) -> str:
    if len(text) <= _SAMPLES * _SAMPLE_CHARACTERS:
        return text
    step = (len(text) - _SAMPLE_CHARACTERS) // (_SAMPLES - 1)
    return " ".join(
        text[number * step : number * step + _SAMPLE_CHARACTERS] for number in range(_SAMPLES)
    )


def _cut(text: str, capacity: int, overlap: int, *, is_markdown: bool) -> list[tuple[int, str]]:
    if is_markdown:
        try:
            return MarkdownSplitter(capacity, overlap).chunk_indices(text)
        except BaseException as error:
            # What pyo3 makes of a Rust panic is no Exception. Seen with a code
            # block indented by tabs that holds characters of several bytes (splitter 0.33).
            if type(error).__name__ != "PanicException":
                raise
    return TextSplitter(capacity, overlap).chunk_indices(text)
