"""Hierarchical documents: parents, each with the children that are embedded in its place."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from worker.providers.parser import Block
from worker.services.dataset.sections import cut_at, whole
from worker.services.dataset.splitting import CountTokens, Passage, SplitRule, split, split_again


def whole_documents(
    blocks: Iterable[Block],
    max_characters: int,
    children: SplitRule,
    count_tokens: CountTokens,
    finish: Callable[[str], str] = str,
) -> Iterator[Passage]:
    """The document as one parent; a longer one as several of up to ``max_characters``."""
    for block in whole(blocks, max_characters):
        yield from _parent(block, children, count_tokens, finish)


def paragraphs(
    blocks: Iterable[Block],
    parents: SplitRule,
    children: SplitRule,
    count_tokens: CountTokens,
    finish: Callable[[str], str] = str,
) -> Iterator[Passage]:
    """Each stretch between two separators as a parent; one that is too long as several.

    Without a separator parents end at headings and sentences.
    """
    sections = blocks if parents.separator is None else cut_at(blocks, parents.separator)
    by_meaning = replace(parents, separator=None)
    for section in sections:
        if parents.separator is not None and count_tokens(section.text) <= parents.max_tokens:
            yield from _parent(section, children, count_tokens, finish)
            continue
        for passage in split([section], by_meaning, count_tokens):
            for piece in _settled(passage, parents, count_tokens):
                block = Block(piece.text, piece.is_markdown, piece.page)
                yield from _parent(block, children, count_tokens, finish)


def _parent(
    block: Block, rule: SplitRule, count_tokens: CountTokens, finish: Callable[[str], str]
) -> Iterator[Passage]:
    text = finish(block.text).strip("\n").rstrip()
    if not text.strip():
        return
    # From the text before it is finished: blank lines may be the children's separator.
    children = tuple(split([block], rule, count_tokens, finish))
    parent = Passage(text, block.page, block.is_markdown, tokens=count_tokens(text))
    yield replace(parent, children=children or (parent,))


def _settled(passage: Passage, rule: SplitRule, count_tokens: CountTokens) -> Iterator[Passage]:
    """The passage, or its pieces: nothing embeds a parent, so nobody else finds it too long."""
    tokens = count_tokens(passage.text)
    if tokens <= rule.max_tokens:
        yield passage
        return
    pieces = list(split_again(passage, tokens, rule))
    if len(pieces) <= 1:  # a single character cannot be cut
        yield passage
        return
    for piece in pieces:
        yield from _settled(piece, rule, count_tokens)
