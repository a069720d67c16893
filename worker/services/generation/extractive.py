"""Without a chat model: sentences of the texts themselves, picked by what they are near to.

A sentence near the centre of all of them says what the text is about (centroid-based
summarization: Radev et al., 2004); each next one is to say something new (maximal marginal
relevance: Carbonell and Goldstein, SIGIR 1998). Nothing is written that is not in the text.
"""

import heapq
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from worker.providers.embedder import Embedder
from worker.services.generation.sentences import all_pieces, sentences

#: What a summary or an answer without a model names as its author.
EXTRACTIVE = "extractive"

Vectors = NDArray[np.float32]

#: Sentences that are compared with each other; of more only the nearest to the centre.
_CANDIDATES = 64
_BATCH = 256
#: Of relevance, against being new.
_RELEVANCE = 0.7
_LONGEST_CHARACTERS = 400
#: What comes first in a text often says what it is about.
_LEAD_SENTENCES = 20
_LEAD_BONUS = 0.08
#: Of an answer's best sentence: what is further off than this does not answer.
_LEAST_OF_BEST = 0.6
#: Words the question and a sentence share, against what they mean.
_OVERLAP = 0.5
_TITLE_CHARACTERS = 60
_LOOSE_ENDS = " ,;，；、"  # noqa: RUF001 - commas of two scripts
_TERMS = re.compile(r"[^\W\d_\u2e80-\u9fff]{3,}|\d+|[\u2e80-\u9fff](?=([\u2e80-\u9fff]))?")


@dataclass(frozen=True, slots=True)
class Picked:
    """A sentence, and the text it is from, numbered from 1."""

    text: str
    number: int


def summarize(
    texts: Callable[[], Iterable[str]], embedder: Embedder, max_sentences: int, max_characters: int
) -> list[str]:
    """The sentences that say most of what texts are about, in their order.

    Args:
        texts: gives the texts, twice: the centre is known when all were seen. Only one of
            them and a bounded number of sentences are held at a time.
        embedder: a local one; every sentence is embedded, twice.
        max_sentences: at most so many.
        max_characters: of all together.

    Returns:
        None when the texts hold no sentence.
    """
    centre: Vectors | None = None
    for _, vectors in _embedded(_numbered(texts()), embedder):
        total = vectors.sum(axis=0)
        centre = total if centre is None else centre + total
    if centre is None:
        return []
    centre /= max(float(np.linalg.norm(centre)), 1e-12)
    best: list[tuple[float, int, str, Vectors]] = []
    seen: set[str] = set()
    for found, vectors in _embedded(_numbered(texts()), embedder):
        for (place, text), vector in zip(found, vectors, strict=True):
            score = float(vector @ centre) + _lead(place)
            if text not in seen and (len(best) < _CANDIDATES or score > best[0][0]):
                seen.add(text)
                gone = _pushed(best, (score, -place, text, vector))
                if gone is not None:
                    seen.discard(gone)
    chosen = _marginal([one[0] for one in best], np.stack([one[3] for one in best]))
    picked: list[tuple[int, str]] = []
    room = max_characters
    for index in chosen:
        _, place, text, _ = best[index]
        if len(picked) < max_sentences and len(text) + 1 <= room:
            picked.append((-place, text))
            room -= len(text) + 1
    return [text for _, text in sorted(picked)]


def title(texts: Sequence[str], embedder: Embedder) -> str:
    """A line that says what texts are about: a sentence of theirs, cut at a word if it is long."""
    found = [one for text in texts for one in sentences(text)]
    found = found or [one for text in texts for one in all_pieces(text)]
    if not found:
        return ""
    vectors = embedder.embed(found).vectors
    centre = vectors.sum(axis=0)
    scores = vectors @ centre + np.array([_lead(place) for place in range(len(found))])
    return shortened(found[int(np.argmax(scores))], _TITLE_CHARACTERS)


def shortened(text: str, characters: int) -> str:
    """The beginning of a text, up to the end of a word."""
    line = " ".join(text.split())
    if len(line) <= characters:
        return line
    kept = line[: characters - 1]
    before, space, _ = kept.rpartition(" ")
    return (before if space and len(before) > characters // 2 else kept).rstrip(_LOOSE_ENDS) + "…"


def answer(
    question: str, passages: Sequence[str], embedder: Embedder, max_sentences: int = 4
) -> list[Picked]:
    """The sentences of passages that come nearest to answering a question, in reading order.

    Args:
        question: what was asked.
        passages: best first.
        embedder: a local one.
        max_sentences: at most so many.
    """
    found = [
        Picked(text, number)
        for number, passage in enumerate(passages, start=1)
        for text in _of_passage(passage)
    ]
    if not found:
        return []
    vectors = embedder.embed([question, *(one.text for one in found)]).vectors
    wanted = _terms(question)
    scores = [
        float(vector @ vectors[0])
        + _OVERLAP * len(wanted & _terms(one.text)) / max(len(wanted), 1)
        # Whoever searched knows better than sentences alone what is relevant.
        + 0.1 / one.number
        for one, vector in zip(found, vectors[1:], strict=True)
    ]
    enough = _LEAST_OF_BEST * max(scores)
    near = [index for index, score in enumerate(scores) if score >= enough]
    near = heapq.nlargest(_CANDIDATES, near, key=scores.__getitem__)
    order = _marginal([scores[one] for one in near], vectors[1:][near])
    kept: dict[str, int] = {}
    for index in order:
        kept.setdefault(found[near[index]].text, near[index])
        if len(kept) == max_sentences:
            break
    return [found[index] for index in sorted(kept.values())]


def _of_passage(passage: str) -> list[str]:
    prose = [one for one in sentences(passage) if len(one) <= _LONGEST_CHARACTERS]
    return prose or [shortened(one, _LONGEST_CHARACTERS) for one in all_pieces(passage)]


def _terms(text: str) -> set[str]:
    return {"".join(one.groups("")) + one.group() for one in _TERMS.finditer(text.casefold())}


def _lead(place: int) -> float:
    return _LEAD_BONUS * max(0.0, 1 - place / _LEAD_SENTENCES)


def _pushed(
    best: list[tuple[float, int, str, Vectors]], entry: tuple[float, int, str, Vectors]
) -> str | None:
    """Keep an entry among the best; returns the sentence that had to go for it."""
    if len(best) < _CANDIDATES:
        heapq.heappush(best, entry)
        return None
    return heapq.heapreplace(best, entry)[2]


def _numbered(texts: Iterable[str]) -> Iterator[tuple[int, str]]:
    found = (one for text in texts for one in sentences(text) if len(one) <= _LONGEST_CHARACTERS)
    return enumerate(found)


def _embedded(
    found: Iterator[tuple[int, str]], embedder: Embedder
) -> Iterator[tuple[list[tuple[int, str]], Vectors]]:
    while batch := list(islice(found, _BATCH)):
        yield batch, embedder.embed([text for _, text in batch]).vectors


def _marginal(scores: Sequence[float], vectors: Vectors) -> list[int]:
    """The order in which each next one is relevant and new."""
    left = list(range(len(scores)))
    order: list[int] = []
    alike = np.zeros(len(scores), dtype=np.float32)
    while left:
        best = max(left, key=lambda one: _RELEVANCE * scores[one] - (1 - _RELEVANCE) * alike[one])
        left.remove(best)
        order.append(best)
        alike = np.maximum(alike, vectors @ vectors[best])
    return order
