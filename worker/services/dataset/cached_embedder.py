"""The content-hash cache in front of a costly embedder: no text is paid for twice."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from shared.errors import RagWorkerError, ServiceUnavailable
from worker.providers.embedder import (
    Embeddings,
    PartwiseEmbedder,
    TextTooLong,
    require_dimension,
)
from worker.stores.embedding_cache import Cached


class Cache(Protocol):
    """Vectors by the hash of their text."""

    def fetch(self, model: str, hashes: Sequence[bytes]) -> dict[bytes, Cached]:
        """What is known of these texts."""

    def store(self, model: str, made: Mapping[bytes, Cached]) -> None:
        """Keep what was made of texts."""


class CachedEmbedder:
    """An embedder that asks the provider only for texts that nobody has embedded yet.

    What a provider made before it failed is kept: the next attempt goes on from there.
    No transaction is open while the provider is asked.
    """

    is_costly = True

    def __init__(self, embedder: PartwiseEmbedder, cache: Cache) -> None:
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
        if not texts:
            return Embeddings(np.zeros((0, self.dimension or 0), np.float32), [])
        hashes = [hashlib.sha256(text.encode()).digest() for text in texts]
        distinct = dict(zip(hashes, texts, strict=True))
        found = self._cache.fetch(self.model, list(distinct))
        new = {digest: text for digest, text in distinct.items() if digest not in found}
        tokens = {digest: self.count_tokens(distinct[digest]) for digest in found}
        if new:
            self._make(new, found, tokens)
        return self._gathered(hashes, found, tokens)

    def close(self) -> None:
        """Close the embedder's connections."""
        self._embedder.close()

    def _make(
        self, new: Mapping[bytes, str], found: dict[bytes, Cached], tokens: dict[bytes, int]
    ) -> None:
        """Ask for what is new, and keep what comes of it, also of what fails in the end."""
        hashes, made = list(new), dict[bytes, Cached]()
        try:
            for part in self._embedder.embed_parts(list(new.values())):
                digests = [hashes[place] for place in part.positions]
                made |= zip(digests, part.embeddings.vectors, strict=True)
                tokens |= zip(digests, part.embeddings.tokens, strict=True)
        except TextTooLong as error:
            made |= dict.fromkeys(hashes[place] for place in error.positions)
        except RagWorkerError:
            self._keep(made)
            raise
        self._keep(made)
        found |= made

    def _keep(self, made: dict[bytes, Cached]) -> None:
        if made:
            self._cache.store(self.model, made)

    def _gathered(
        self, hashes: Sequence[bytes], found: Mapping[bytes, Cached], tokens: Mapping[bytes, int]
    ) -> Embeddings:
        """A row for each hash.

        Raises:
            TextTooLong: (permanent) of some the model takes none; carries the others.
            ServiceUnavailable: (transient) a text has no vector.
            ProviderRefused: (permanent) they are of different dimensions.
        """
        if missing := sum(digest not in found for digest in hashes):
            raise ServiceUnavailable(f"{missing} of {len(hashes)} texts got no vector")
        lengths = {len(vector) for vector in found.values() if vector is not None}
        if lengths:
            require_dimension(max(lengths), min(lengths))
            (self._dimension,) = lengths
        nothing = np.zeros(self._dimension or 0, np.float32)
        rows = [found[digest] for digest in hashes]
        vectors = np.stack([nothing if row is None else row for row in rows])
        counts = [0 if found[digest] is None else tokens[digest] for digest in hashes]
        made = Embeddings(vectors.astype(np.float32, copy=False), counts)
        refused = [place for place, row in enumerate(rows) if row is None]
        if refused:
            raise TextTooLong(refused, made)
        return made
