"""Embedders by provider and model."""

from contextlib import suppress
from functools import cache, partial

from flask import current_app

from shared.errors import ConfigurationError
from shared.settings import Settings
from shared.settings.embedding import EmbeddingSettings
from worker.delivery import metrics, runs
from worker.providers.embedder import Embedder, PartwiseEmbedder
from worker.providers.joined_embedder import JoinedEmbedder
from worker.providers.openai_compatible import OpenAICompatibleEmbedder
from worker.providers.pacing import Rate, Unlimited
from worker.providers.sentence_transformers import SentenceTransformersEmbedder
from worker.providers.wordllama import WordLlamaEmbedder
from worker.services.dataset.cached_embedder import CachedEmbedder
from worker.services.dataset.counted_embedder import CountedEmbedder, CountedPartwiseEmbedder
from worker.services.dataset.joined_cache import JoinedCache
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
    loaded = _loaded()
    if (provider, model) not in loaded:
        costly = _costly_embedder(provider, model)
        counted = CountedPartwiseEmbedder(costly, partial(_count, f"{provider}/{model}"))
        loaded.setdefault((provider, model), CachedEmbedder(counted, embedding_cache()))
    return loaded[provider, model]


def joined_embedder(provider: str, model: str) -> Embedder:
    """The same for tasks that come in numbers: what they ask for shares requests and statements.

    Not for a search: it would wait for the texts of others.

    Raises:
        ConfigurationError: no such provider or model, or its settings are missing.
    """
    if provider != "openai_compatible":
        return embedder(provider, model)
    loaded = _loaded()
    if (provider, model, "joined") not in loaded:
        costly = JoinedEmbedder(_remote_embedder(model), runs.number)
        counted = CountedPartwiseEmbedder(costly, partial(_count, f"{provider}/{model}"))
        cache = JoinedCache(embedding_cache(), costly.model)
        loaded.setdefault((provider, model, "joined"), CachedEmbedder(counted, cache))
    return loaded[provider, model, "joined"]


def preload_embedder(settings: Settings) -> None:
    """Load the model of new datasets, where it is a local one; a wrong name is a task's to tell."""
    wanted = settings.embedding
    if wanted.embedding_provider in LOCAL_EMBEDDERS:
        with suppress(ConfigurationError):
            _local_embedder(wanted.embedding_provider, wanted.embedding_model)


def embedding_cache() -> EmbeddingCache:
    """The cache of costly embedders."""
    return EmbeddingCache(sessions())


@cache
def _local_embedder(provider: str, model: str) -> Embedder:
    return CountedEmbedder(LOCAL_EMBEDDERS[provider](model), partial(_count, f"{provider}/{model}"))


def _count(model: str, tokens: int) -> None:
    run = runs.current()
    metrics.EMBEDDING_TOKENS.add(tokens, model, (run and run.tenant_id) or "")


def _loaded() -> dict[tuple[str, ...], Embedder]:
    found: dict[tuple[str, ...], Embedder] = current_app.extensions.setdefault("embedders", {})
    return found


def _costly_embedder(provider: str, model: str) -> PartwiseEmbedder:
    if provider == "sentence_transformers":
        settings: EmbeddingSettings = current_app.extensions["settings"].embedding
        return SentenceTransformersEmbedder(model, settings.embedding_max_batch_texts)
    return _remote_embedder(model)


def _remote_embedder(model: str) -> OpenAICompatibleEmbedder:
    """One for all of the process: it has so many requests at a time."""
    made: dict[str, OpenAICompatibleEmbedder]
    made = current_app.extensions.setdefault("remote_embedders", {})
    if model not in made:
        settings: EmbeddingSettings = current_app.extensions["settings"].embedding
        made.setdefault(model, OpenAICompatibleEmbedder(model, settings, _rate(settings)))
    return made[model]


def _rate(settings: EmbeddingSettings) -> Rate:
    requests = settings.embedding_requests_per_minute
    tokens = settings.embedding_tokens_per_minute
    if not (requests or tokens):
        return Unlimited()
    redis = current_app.extensions["redis"]
    return ProviderRate(redis, settings.embedding_base_url, requests, tokens)
