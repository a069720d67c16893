"""Embedders by provider and model."""

from functools import cache, partial

from flask import current_app

from shared.errors import ConfigurationError
from shared.settings.embedding import EmbeddingSettings
from worker.delivery import metrics, runs
from worker.providers.embedder import Embedder, PartwiseEmbedder
from worker.providers.openai_compatible import OpenAICompatibleEmbedder
from worker.providers.pacing import Rate, Unlimited
from worker.providers.sentence_transformers import SentenceTransformersEmbedder
from worker.providers.wordllama import WordLlamaEmbedder
from worker.services.dataset.cached_embedder import CachedEmbedder
from worker.services.dataset.counted_embedder import CountedEmbedder, CountedPartwiseEmbedder
from worker.stores.embedding_cache import EmbeddingCache
from worker.stores.provider_rate import ProviderRate
from worker.wiring.foundations import sessions

LOCAL_EMBEDDERS = {"wordllama": WordLlamaEmbedder}
#: Their vectors cost more than a look-up: the cache stands in front of each.
COSTLY_EMBEDDERS = ("openai_compatible", "sentence_transformers")


def embedder(provider: str, model: str) -> Embedder:
    """A dataset's embedder, loaded once a process; remote ones once an application.

    Raises:
        ConfigurationError: no such provider or model, or its settings are missing.
    """
    if provider in LOCAL_EMBEDDERS:
        return _local_embedder(provider, model)
    if provider not in COSTLY_EMBEDDERS:
        known = ", ".join((*LOCAL_EMBEDDERS, *COSTLY_EMBEDDERS))
        raise ConfigurationError(f"there is no embedding provider {provider!r}, only: {known}")
    loaded: dict[tuple[str, str], Embedder] = current_app.extensions.setdefault("embedders", {})
    if (provider, model) not in loaded:
        costly = _costly_embedder(provider, model)
        counted = CountedPartwiseEmbedder(costly, partial(_count, f"{provider}/{model}"))
        made = CachedEmbedder(counted, embedding_cache())
        loaded.setdefault((provider, model), made)
    return loaded[provider, model]


def embedding_cache() -> EmbeddingCache:
    """The cache of costly embedders."""
    return EmbeddingCache(sessions())


@cache
def _local_embedder(provider: str, model: str) -> Embedder:
    return CountedEmbedder(LOCAL_EMBEDDERS[provider](model), partial(_count, f"{provider}/{model}"))


def _count(model: str, tokens: int) -> None:
    run = runs.current()
    metrics.EMBEDDING_TOKENS.add(tokens, model, (run and run.tenant_id) or "")


def _costly_embedder(provider: str, model: str) -> PartwiseEmbedder:
    settings: EmbeddingSettings = current_app.extensions["settings"].embedding
    if provider == "sentence_transformers":
        return SentenceTransformersEmbedder(model, settings.embedding_max_batch_texts)
    requests = settings.embedding_requests_per_minute
    tokens = settings.embedding_tokens_per_minute
    rate: Rate = Unlimited()
    if requests or tokens:
        redis = current_app.extensions["redis"]
        rate = ProviderRate(redis, settings.embedding_base_url, requests, tokens)
    return OpenAICompatibleEmbedder(model, settings, rate)
