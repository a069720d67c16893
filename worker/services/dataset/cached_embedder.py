"""The content-hash cache in front of a costly embedder: no text is paid for twice."""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from shared.errors import RagWorkerError
from worker.providers.embedder import (
    Embeddings,
    Part,
    PartwiseEmbedder,
    TextTooLong,
    gathered,
)
from worker.stores.embedding_cache import Cached, EmbeddingCache


class CachedEmbedder:
    """An embedder that asks the provider only for texts that nobody has embedded yet.

    What a provider made before it failed is kept: the next attempt goes on from there.
    No transaction is open while the provider is asked.
    """

    is_costly = True

    def __init__(self, embedder: PartwiseEmbedder, cache: EmbeddingCache) -> None:
        self._embedder = embedder
        self._cache = cache
        self._dimension: int | None = None

    @property
    def model(self) -> str:
        """The embedder's."""
        return self._embedder.model

    @property
    def dimension(self) -> int | None:
        """Length of a vector; ``None`` until the first is seen."""
        return self._embedder.dimension or self._dimension

    def count_tokens(self, text: str) -> int:
        """How many tokens ``text`` is."""
        return self._embedder.count_tokens(text)

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """Embed a batch; see ``Embedder.embed``."""
        return gathered(len(texts), self._parts(texts), self.dimension)

    def close(self) -> None:
        """Close the embedder's connections."""
        self._embedder.close()

    def _parts(self, texts: Sequence[str]) -> Iterator[Part]:
        if not texts:
            return
        places: dict[bytes, list[int]] = {}
        for place, text in enumerate(texts):
            places.setdefault(hashlib.sha256(text.encode()).digest(), []).append(place)
        found = self._cache.fetch(self.model, list(places))
        new = [digest for digest in places if digest not in found]
        refused: list[int] = []
        if new:
            found |= self._made(new, [texts[places[digest][0]] for digest in new])
        for digest, vector in found.items():
            if vector is None:
                refused += places[digest]
                continue
            self._dimension = len(vector)
            rows = np.repeat(vector[np.newaxis], len(places[digest]), axis=0)
            tokens = self.count_tokens(texts[places[digest][0]])
            yield Part(places[digest], Embeddings(rows, [tokens] * len(rows)))
        if refused:
            raise TextTooLong(sorted(refused))

    def _made(self, hashes: Sequence[bytes], texts: Sequence[str]) -> dict[bytes, Cached]:
        made: dict[bytes, Cached] = {}
        try:
            for part in self._embedder.embed_parts(texts):
                vectors = part.embeddings.vectors
                made |= zip((hashes[one] for one in part.positions), vectors, strict=True)
        except TextTooLong as error:
            made |= dict.fromkeys(hashes[one] for one in error.positions)
        except RagWorkerError:
            self._keep(made)
            raise
        self._keep(made)
        return made

    def _keep(self, made: dict[bytes, Cached]) -> None:
        if made:
            self._cache.store(self.model, made)
