"""The embedder protocols: texts in, unit vectors out."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shared.errors import Permanent, ProviderRefused, ServiceUnavailable


@dataclass(frozen=True, slots=True)
class Embeddings:
    """What a batch of texts became.

    Attributes:
        vectors: shape (texts, dimension), float32, each of unit length.
        tokens: the model's token count of each text; of a remote model, an estimate.
    """

    vectors: NDArray[np.float32]
    tokens: list[int]


@dataclass(frozen=True, slots=True)
class Part:
    """What one request for some of the texts brought.

    Attributes:
        positions: the places of its texts among all that were given.
        embeddings: a row a position, in their order.
    """

    positions: Sequence[int]
    embeddings: Embeddings


class TextTooLong(Permanent):
    """The model takes no text of this length: shorten it, or split it.

    Attributes:
        positions: which of the texts.
        made: what became of all of them; zeros in the rows of these.
    """

    def __init__(
        self, positions: Sequence[int], made: Embeddings | None = None, message: str | None = None
    ) -> None:
        super().__init__(message)
        self.positions = tuple(positions)
        self.made = made


class Embedder(Protocol):
    """One embedding model."""

    @property
    def model(self) -> str:
        """Provider and model, the cache's key: ``wordllama/l2_supercat_256``."""

    @property
    def dimension(self) -> int | None:
        """Length of a vector; ``None`` while only the provider knows, until its first answer."""

    @property
    def is_costly(self) -> bool:
        """Whether a text is counted before it is embedded: a vector costs more than a count."""

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """Embed a batch; order is kept and no text is skipped.

        Raises:
            TextTooLong: (permanent) the model refuses the length of some; carries the others.
            RateLimited: (transient) its rate is used up; carries ``retry_after_seconds``.
            ServiceUnavailable: (transient) the provider does not answer, or not properly.
            ProviderRefused: (permanent) it refuses; its words say why.
        """

    def count_tokens(self, text: str) -> int:
        """How many of the model's tokens ``text`` is; always the same for the same text."""


class PartwiseEmbedder(Embedder, Protocol):
    """A costly model: what it has made is handed out at once, and survives a later failure."""

    def embed_parts(self, texts: Sequence[str]) -> Iterator[Part]:
        """Embed in the provider's own batches, in any order; each is yielded when it is done.

        Raises:
            RagWorkerError: what ``embed`` raises, after all that succeeded was yielded.
        """

    def close(self) -> None:
        """Close its connections."""


def gathered(texts: int, parts: Iterable[Part], dimension: int | None = None) -> Embeddings:
    """The parts of a number of texts as one, each vector in its text's own row.

    Args:
        texts: how many there are.
        parts: of them.
        dimension: of no texts at all.

    Raises:
        TextTooLong: (permanent) the parts end in it; carries the others.
        ServiceUnavailable: (transient) a text has no vector.
        ProviderRefused: (permanent) the parts are of different dimensions.
    """
    vectors = np.zeros((texts, dimension or 0), dtype=np.float32)
    tokens = [0] * texts
    missing = set(range(texts))
    refused: tuple[int, ...] = ()
    try:
        for part in parts:
            if len(missing) == texts:
                vectors = np.zeros((texts, part.embeddings.vectors.shape[1]), dtype=np.float32)
            positions = list(part.positions)
            require_dimension(part.embeddings.vectors.shape[1], vectors.shape[1])
            vectors[positions] = part.embeddings.vectors
            for position, count in zip(positions, part.embeddings.tokens, strict=True):
                tokens[position] = count
            missing.difference_update(positions)
    except TextTooLong as error:
        refused = error.positions
    made = Embeddings(vectors, tokens)
    if missing.difference(refused):
        raise ServiceUnavailable(f"{len(missing)} of {texts} texts got no vector")
    if refused:
        raise TextTooLong(refused, made)
    return made


def require_dimension(found: int, expected: int) -> None:
    """Check the length of vectors.

    Raises:
        ProviderRefused: (permanent) it is another.
    """
    if found != expected:
        raise ProviderRefused(
            f"the embedding provider answers with vectors of {found} dimensions in place of "
            f"{expected}: see EMBEDDING_DIMENSIONS, or rebuild the dataset's index"
        )
