"""Hierarchical documents: parents, each with the children that are embedded in its place."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from worker.providers.parser import Block
from worker.services.dataset.sections import cut_at, whole
from worker.services.dataset.splitting import (
    CountTokens,
    Passage,
    Scale,
    SplitRule,
    split,
    split_again,
)


class Families:
    """Cuts one document into parents and their children.

    Args:
        children: where children end, and how long they may be.
        count_tokens: the embedder's.
        finish: what is to be done to a piece once it is cut.
    """

    def __init__(
        self, children: SplitRule, count_tokens: CountTokens, finish: Callable[[str], str] = str
    ) -> None:
        self._children = children
        self._count_tokens = count_tokens
        self._finish = finish
        self._scale = Scale(count_tokens)

    def whole_documents(self, blocks: Iterable[Block], max_characters: int) -> Iterator[Passage]:
        """The document as one parent; a longer one as several of up to ``max_characters``."""
        for block in whole(blocks, max_characters):
            yield from self._parent(block, None)

    def paragraphs(self, blocks: Iterable[Block], parents: SplitRule) -> Iterator[Passage]:
        """Each stretch between two separators as a parent; one that is too long as several.

        Without a separator parents end at headings and sentences.
        """
        if parents.separator is None:
            yield from self._cut(blocks, parents)
            return
        for section in cut_at(blocks, parents.separator):
            tokens = self._count_tokens(section.text)
            if tokens <= parents.max_tokens:
                yield from self._parent(section, tokens)
            else:
                yield from self._cut([section], parents)

    def by_hand(self, text: str) -> Passage:
        """A parent that a person wrote, with its children; not blank."""
        return next(self._parent(Block(text), None))

    def _cut(self, blocks: Iterable[Block], parents: SplitRule) -> Iterator[Passage]:
        for passage in split(blocks, replace(parents, separator=None), self._count_tokens):
            for piece in self._settled(passage, parents):
                block = Block(piece.text, piece.is_markdown, piece.page)
                yield from self._parent(block, piece.tokens)

    def _parent(self, block: Block, tokens: int | None) -> Iterator[Passage]:
        """The parent, none if it is blank; ``tokens`` are the block's, where they are known."""
        text = self._finish(block.text).strip("\n").rstrip()
        if not text.strip():
            return
        if tokens is None or text != block.text:
            tokens = self._count_tokens(text)
        parent = Passage(text, block.page, block.is_markdown, tokens=tokens)
        # From the text before it is finished: blank lines may be the children's separator.
        rule = self._children
        children = split([block], rule, self._count_tokens, self._finish, self._scale)
        yield replace(parent, children=tuple(children) or (parent,))

    def _settled(self, passage: Passage, rule: SplitRule) -> Iterator[Passage]:
        """The passage, or its pieces: nothing embeds a parent, so nobody else finds it too long."""
        tokens = self._count_tokens(passage.text)
        pieces = []
        if tokens > rule.max_tokens:
            pieces = list(split_again(passage, tokens, rule))
        if len(pieces) <= 1:  # it fits, or is a single character, which cannot be cut
            yield replace(passage, tokens=tokens)
            return
        for piece in pieces:
            yield from self._settled(piece, rule)
