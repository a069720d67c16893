"""The embedder protocol: texts in, unit vectors out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Embeddings:
    """What a batch of texts became.

    Attributes:
        vectors: shape (texts, dimension), float32, each of unit length.
        tokens: the model's token count of each text.
    """

    vectors: NDArray[np.float32]
    tokens: list[int]


class Embedder(Protocol):
    """One embedding model."""

    @property
    def model(self) -> str:
        """Provider and model, the cache's key: ``wordllama/l2_supercat_256``."""

    @property
    def dimension(self) -> int:
        """Length of a vector."""

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """Embed a batch; order is kept and no text is skipped.

        Raises:
            ServiceUnavailable: (transient) the provider does not answer.
        """

    def count_tokens(self, text: str) -> int:
        """How many of the model's tokens ``text`` is."""
