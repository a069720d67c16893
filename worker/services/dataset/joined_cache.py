"""The cache of embeddings for many tasks at once: their look-ups share a statement."""

from collections.abc import Mapping, Sequence

from worker.delivery.coalescing import Coalesced
from worker.services.dataset.cached_embedder import Cache
from worker.stores.embedding_cache import Cached


class JoinedCache:
    """A cache of one model, which tasks under gevent ask together.

    Args:
        cache: asked by one statement for all.
        model: the key of what is kept.
    """

    def __init__(self, cache: Cache, model: str) -> None:
        self._cache = cache
        self._model = model
        self._fetching = Coalesced(self._fetch_together)
        self._storing = Coalesced(self._store_together)

    def fetch(self, model: str, hashes: Sequence[bytes]) -> dict[bytes, Cached]:
        """What is known of these texts."""
        found = self._fetching(hashes) if model == self._model else None
        return self._cache.fetch(model, hashes) if found is None else found

    def store(self, model: str, made: Mapping[bytes, Cached]) -> None:
        """Keep what was made of texts; what is there already stays."""
        if model != self._model or self._storing(made) is None:
            self._cache.store(model, made)

    def _fetch_together(self, asked: Sequence[Sequence[bytes]]) -> list[dict[bytes, Cached]]:
        distinct = dict.fromkeys(digest for hashes in asked for digest in hashes)
        found = self._cache.fetch(self._model, list(distinct))
        return [{one: found[one] for one in hashes if one in found} for hashes in asked]

    def _store_together(self, made: Sequence[Mapping[bytes, Cached]]) -> list[bool]:
        everything: dict[bytes, Cached] = {}
        for one in made:
            everything |= one
        self._cache.store(self._model, everything)
        return [True] * len(made)
