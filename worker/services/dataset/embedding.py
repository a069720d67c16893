"""Passages become vectors; what the serving version has already is not embedded again."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.providers.embedder import Embedder
from worker.services.dataset.counting import word_count
from worker.services.dataset.splitting import Passage, SplitRule, split_again


@dataclass(frozen=True, slots=True)
class Known:
    """What an earlier run learned of a passage."""

    vector: NDArray[np.float32]
    tokens: int


#: Content hashes in, what is known of them out.
Lookup = Callable[[Sequence[str]], dict[str, Known]]


@dataclass(frozen=True, slots=True)
class EmbeddedPassage:
    """A passage that fits the rule, with its vector (float32, unit length) or its children's."""

    passage: Passage
    content_hash: str
    vector: NDArray[np.float32] | None
    tokens: int
    words: int
    children: "tuple[EmbeddedPassage, ...]" = ()


def embed_passages(
    passages: Sequence[Passage], rule: SplitRule, embedder: Embedder, lookup: Lookup
) -> list[EmbeddedPassage]:
    """Embed passages in order; those above ``rule.max_tokens`` are split again first.

    Raises:
        ServiceUnavailable: (transient) the provider does not answer.
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
            tuple(one for _ in parent.children for one in next(made)),
        )
        for parent in parents
    ]


def _embedded(
    passages: Sequence[Passage], rule: SplitRule, embedder: Embedder, lookup: Lookup
) -> list[list[EmbeddedPassage]]:
    """The pieces that each passage became: one, if it fits."""
    made = [[one] for one in _embedded_once(passages, embedder, lookup)]
    split: dict[int, list[Passage]] = {}
    for index, (one,) in enumerate(made):
        if one.tokens > rule.max_tokens:
            pieces = list(split_again(one.passage, one.tokens, rule))
            if len(pieces) > 1:  # a single character cannot be cut
                split[index] = pieces
    if split:
        # All in one call: a call costs more than a few passages.
        flat = [piece for pieces in split.values() for piece in pieces]
        redone = iter(_embedded(flat, rule, embedder, lookup))
        for index, pieces in split.items():
            made[index] = [one for _ in pieces for one in next(redone)]
    return made


def _embedded_once(
    passages: Sequence[Passage], embedder: Embedder, lookup: Lookup
) -> list[EmbeddedPassage]:
    hashes = [content_hash(passage.text) for passage in passages]
    known = lookup(hashes)
    new = [index for index, digest in enumerate(hashes) if digest not in known]
    made = embedder.embed([passages[index].text for index in new]) if new else None
    rows = dict(zip(new, zip(made.vectors, made.tokens, strict=True), strict=True)) if made else {}
    embedded: list[EmbeddedPassage] = []
    for index, (passage, digest) in enumerate(zip(passages, hashes, strict=True)):
        words = word_count(passage.text)
        vector, tokens = (
            rows[index] if index in rows else (known[digest].vector, known[digest].tokens)
        )
        embedded.append(EmbeddedPassage(passage, digest, vector, tokens, words))
    return embedded


def content_hash(text: str) -> str:
    """SHA-256 of the text, hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()
