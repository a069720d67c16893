"""Chat models by tenant."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from flask import current_app

from shared.settings import Settings
from shared.submitting.chat_models import ChatModelChoice, chat_model_of
from worker.providers.chat import ChatModel
from worker.providers.embedder import Embedder
from worker.providers.pacing import Rate, Unlimited
from worker.services.generation.extractive import Picked, answer
from worker.services.generation.token_ledger import Account, TokenLedger
from worker.stores.provider_rate import ProviderRate
from worker.wiring.embedders import embedder
from worker.wiring.foundations import sessions

if TYPE_CHECKING:
    from worker.providers.chat_connection import ChatConnection


def chat_model(tenant_id: UUID, purpose: str, subject_id: UUID | None = None) -> ChatModel | None:
    """The tenant's chat model; ``None`` where none is configured.

    Args:
        tenant_id: who pays.
        purpose: what for, as ``token_uses`` names it.
        subject_id: the row it is for.

    Raises:
        ConfigurationError: the tenant's key was sealed with another SECRET_KEY.
    """
    settings: Settings = current_app.extensions["settings"]
    choice = _choice(tenant_id)
    if not choice.model:
        return None
    from worker.providers.openai_chat import OpenAIChat

    account = Account(
        tenant_id=tenant_id,
        purpose=purpose,
        subject_id=subject_id,
        tokens_per_day=choice.tokens_per_day,
        input_cost_per_million=choice.input_cost_per_million,
        output_cost_per_million=choice.output_cost_per_million,
    )
    ledger = TokenLedger(sessions(), account, settings.generation.generation_call_seconds)
    return OpenAIChat(_connection(choice, settings), ledger)


def preload_chat(settings: Settings) -> None:
    """Import the client where a model is configured: the first answer would wait seconds for it."""
    if settings.generation.generation_model:
        import worker.providers.openai_chat  # noqa: F401


def is_configured(tenant_id: UUID) -> bool:
    """Whether the tenant has a chat model."""
    return bool(_choice(tenant_id).model)


def extract_answer(question: str, passages: Sequence[str]) -> list[Picked]:
    """Where there is no model: the passages' own sentences that come nearest to an answer."""
    return answer(question, passages, sentence_embedder())


def sentence_embedder() -> Embedder:
    """What compares sentences: local, whatever the datasets use, so that it costs nothing."""
    return embedder("wordllama", "l2_supercat_256")


def _choice(tenant_id: UUID) -> ChatModelChoice:
    settings: Settings = current_app.extensions["settings"]
    with sessions()() as session:
        secret_key = settings.application.secret_key
        return chat_model_of(session, tenant_id, settings.generation, secret_key)


def _connection(choice: ChatModelChoice, settings: Settings) -> "ChatConnection":
    """One a process for each model of each server and key: its connections are shared."""
    # Here, not above: most workers never call a chat model, and the SDK is large.
    from worker.providers.chat_connection import ChatConnection, Endpoint

    most = settings.generation
    endpoint = Endpoint(
        url=choice.base_url,
        model=choice.model,
        key=choice.key,
        context_tokens=choice.context_tokens,
        silence_seconds=most.generation_silence_seconds,
        call_seconds=most.generation_call_seconds,
        max_answer_bytes=most.generation_max_answer_bytes,
        connections=most.generation_connections,
    )
    made: dict[Endpoint, ChatConnection] = current_app.extensions.setdefault("chat_models", {})
    if endpoint not in made:
        made[endpoint] = ChatConnection(endpoint, _rate(choice, settings))
    return made[endpoint]


def _rate(choice: ChatModelChoice, settings: Settings) -> Rate:
    requests = settings.generation.generation_requests_per_minute
    tokens = settings.generation.generation_tokens_per_minute
    if not requests and not tokens:
        return Unlimited()
    # A provider counts by key: tenants with keys of their own do not share a rate.
    whose = hashlib.sha256(choice.key.get_secret_value().encode()).hexdigest()[:16]
    redis = current_app.extensions["redis"]
    return ProviderRate(redis, f"chat:{choice.base_url}:{whose}", requests, tokens)
