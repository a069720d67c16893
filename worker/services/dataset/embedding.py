"""Passages become vectors; what the serving version has already is not embedded again."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from shared.errors import ProviderRefused
from worker.providers.embedder import Embedder, TextTooLong
from worker.services.dataset.counting import word_count
from worker.services.dataset.splitting import Passage, SplitRule, split_again


@dataclass(frozen=True, slots=True)
class Known:
    """What an earlier run learned of a passage.

    Attributes:
        vector: ``None`` where it can be taken over inside the database.
        source: what has it, a segment or a child of the serving version.
    """

    vector: NDArray[np.float32] | None
    tokens: int
    source: UUID | None = None


Became = TypeVar("Became")
#: Content hashes in, what is known of them out.
Lookup = Callable[[Sequence[str]], dict[str, Known]]


@dataclass(frozen=True, slots=True)
class EmbeddedPassage:
    """A passage that fits the rule, with its vector (float32, unit length) or its children's.

    Without either, ``source`` in the serving version has its vector.
    """

    passage: Passage
    content_hash: str
    vector: NDArray[np.float32] | None
    tokens: int
    words: int
    children: "tuple[EmbeddedPassage, ...]" = ()
    source: UUID | None = None


def embed_passages(
    passages: Sequence[Passage], rule: SplitRule, embedder: Embedder, lookup: Lookup
) -> list[EmbeddedPassage]:
    """Embed passages in order; those above ``rule.max_tokens`` are split again first.

    Raises:
        RateLimited: (transient) the provider's rate is used up.
        ServiceUnavailable: (transient) the provider does not answer, or not properly.
        ProviderRefused: (permanent) it refuses; its words say why.
    """
    return [one for pieces in _embedded(passages, rule, embedder, lookup) for one in pieces]


def embed_parents(
    parents: Sequence[Passage], rule: SplitRule, embedder: Embedder, lookup: Lookup
) -> list[EmbeddedPassage]:
    """Embed the children of all parents together; one above ``rule.max_tokens`` is split again.

    Raises:
        ServiceUnavailable: (transient) the provider does not answer.
    """
    flat = [child for parent in parents for child in parent.children]
    made = iter(_embedded(flat, rule, embedder, lookup))
    return [
        EmbeddedPassage(
            parent,
            content_hash(parent.text),
            None,
            parent.tokens,
            word_count(parent.text),
            tuple(_of_all(parent.children, made)),
        )
        for parent in parents
    ]


def _embedded(
    passages: Sequence[Passage], rule: SplitRule, embedder: Embedder, lookup: Lookup
) -> list[list[EmbeddedPassage]]:
    """The pieces that each passage became: one, if it fits."""
    known: dict[str, Known] = {}
    cut = _cut(passages, rule, embedder, lookup, known)
    made = iter(_made_of([one for pieces in cut for one in pieces], rule, embedder, lookup, known))
    return [_of_all(pieces, made) for pieces in cut]


def _of_all(pieces: Sequence[Passage], became: Iterator[Sequence[Became]]) -> list[Became]:
    """What pieces became, in one; of each the next says it."""
    return [one for _ in pieces for one in next(became)]


def _cut(
    passages: Sequence[Passage],
    rule: SplitRule,
    embedder: Embedder,
    lookup: Lookup,
    known: dict[str, Known],
) -> list[list[Passage]]:
    """What each is embedded as, by what can be counted; ``known`` is told what was looked up.

    All pieces are there before the model is asked: so it is asked once.
    """
    hashes = [content_hash(passage.text) for passage in passages]
    found = lookup(hashes)
    known |= found
    # Where others are known, one that is too long was split in the run before: its pieces are.
    is_counted = embedder.is_costly or bool(found)
    new = {index: passages[index] for index, digest in enumerate(hashes) if digest not in found}
    split = _counted_too_long(new, rule, embedder) if is_counted else {}
    flat = [piece for pieces in split.values() for piece in pieces]
    cut = iter(_cut(flat, rule, embedder, lookup, known) if flat else [])
    return [
        _of_all(split[index], cut) if index in split else [passage]
        for index, passage in enumerate(passages)
    ]


def _made_of(
    passages: Sequence[Passage],
    rule: SplitRule,
    embedder: Embedder,
    lookup: Lookup,
    known: Mapping[str, Known],
) -> list[list[EmbeddedPassage]]:
    """As ``_embedded``, of what is to be embedded as it is; split if it is too long after all."""
    hashes = [content_hash(passage.text) for passage in passages]
    new = {index: passages[index] for index, digest in enumerate(hashes) if digest not in known}
    made = dict(zip(new, _made(list(new.values()), embedder), strict=True))
    split: dict[int, list[Passage]] = {}
    whole: dict[int, EmbeddedPassage] = {}
    for index, (passage, digest) in enumerate(zip(passages, hashes, strict=True)):
        found = made[index] if index in made else known[digest]
        if found is None:
            split[index] = _halves(passage, embedder)
        elif found.tokens > rule.max_tokens and len(pieces := _pieces(passage, found, rule)) > 1:
            split[index] = pieces
        else:
            words = word_count(passage.text)
            whole[index] = EmbeddedPassage(
                passage, digest, found.vector, found.tokens, words, source=found.source
            )
    # All in one call: a call costs more than a few passages.
    flat = [piece for pieces in split.values() for piece in pieces]
    redone = iter(_embedded(flat, rule, embedder, lookup) if flat else [])
    return [
        _of_all(split[index], redone) if index in split else [whole[index]]
        for index in range(len(passages))
    ]


def _made(passages: Sequence[Passage], embedder: Embedder) -> list[Known | None]:
    """What the model made of new passages; ``None`` where it refuses the length."""
    if not passages:
        return []
    refused: tuple[int, ...] = ()
    try:
        made = embedder.embed([passage.text for passage in passages])
    except TextTooLong as error:
        if error.made is None:
            raise
        made, refused = error.made, error.positions
    return [
        None if index in refused else Known(vector, tokens)
        for index, (vector, tokens) in enumerate(zip(made.vectors, made.tokens, strict=True))
    ]


def _counted_too_long(
    new: Mapping[int, Passage], rule: SplitRule, embedder: Embedder
) -> dict[int, list[Passage]]:
    """The pieces of those that are counted as too long, before anybody is paid to embed them."""
    split: dict[int, list[Passage]] = {}
    for index, passage in new.items():
        tokens = embedder.count_tokens(passage.text)
        if tokens > rule.max_tokens:
            pieces = list(split_again(passage, tokens, rule))
            if len(pieces) > 1:
                split[index] = pieces
    return split


def _pieces(passage: Passage, found: Known, rule: SplitRule) -> list[Passage]:
    # A single character cannot be cut.
    return list(split_again(passage, found.tokens, rule))


def _halves(passage: Passage, embedder: Embedder) -> list[Passage]:
    pieces = list(split_again(passage, 2, SplitRule(max_tokens=1)))
    if len(pieces) < 2:  # noqa: PLR2004 - one piece is the passage itself
        raise ProviderRefused(
            f"{embedder.model} takes no text at all: not even of {len(passage.text)} characters"
        )
    return pieces


def content_hash(text: str) -> str:
    """SHA-256 of the text, hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()
