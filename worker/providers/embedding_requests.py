"""Texts go to a provider by the request: how large one may be, and what came of it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from shared.errors import RagWorkerError
from worker.providers.embedder import Part, PartwiseEmbedder, TextTooLong


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What a provider takes.

    Attributes:
        texts: in one request.
        tokens: likewise; a single longer text goes alone.
        requests: at a time, of one process.
    """

    texts: int
    tokens: int
    requests: int


@dataclass(slots=True)
class Outcome:
    """What came of one request, halves included: a failure does not undo what succeeded.

    Attributes:
        parts: what was made.
        refused: places of texts that are too long for the model.
        failure: why the rest has no vector.
    """

    parts: list[Part] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    failure: RagWorkerError | None = None


class RequestEmbedder(PartwiseEmbedder, Protocol):
    """A model that is asked by requests."""

    @property
    def limits(self) -> RequestLimits:
        """Of its provider."""

    def ask(self, texts: Sequence[str], tokens: Sequence[int]) -> Outcome:
        """Embed what fits one request, when it is its turn."""


def parts_of(outcomes: Iterable[Outcome], model: str) -> Iterator[Part]:
    """The parts of several requests' outcomes, each when it is there.

    Raises:
        RagWorkerError: the first failure, after all that succeeded was yielded.
        TextTooLong: (permanent) nothing failed, but ``model`` takes no text of some's length.
    """
    error: RagWorkerError | None = None
    refused: list[int] = []
    for outcome in outcomes:
        yield from outcome.parts
        refused += outcome.refused
        error = error or outcome.failure
    if error is not None:
        raise error
    if refused:
        raise TextTooLong(
            sorted(refused), message=f"{model} takes no text of this length: shorten it"
        )


def batched(tokens: Sequence[int], max_tokens: int, max_texts: int) -> Iterator[list[int]]:
    """Positions of consecutive texts that go into one request; a longer one goes alone."""
    batch: list[int] = []
    total = 0
    for position, count in enumerate(tokens):
        if batch and (total + count > max_tokens or len(batch) == max_texts):
            yield batch
            batch, total = [], 0
        batch.append(position)
        total += count
    if batch:
        yield batch
