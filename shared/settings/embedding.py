"""Embedding: which model, where it answers, and how much it may be asked."""

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from shared.settings.base import SettingsGroup


class EmbeddingSettings(SettingsGroup):
    embedding_provider: str = Field(
        "wordllama",
        description="Of new datasets: wordllama, openai_compatible or sentence_transformers.",
    )
    embedding_model: str = Field("l2_supercat_256", description="Its model.")
    embedding_base_url: str = Field(
        "", description="Of openai_compatible, up to the version: https://api.openai.com/v1."
    )
    embedding_api_key: SecretStr = Field(
        SecretStr(""), description="Sent as a bearer token; empty: none is."
    )
    embedding_dimensions: int = Field(
        0, ge=0, description="Asked of a model that can shorten its vectors; 0: the model's own."
    )
    embedding_encoding_format: Literal["float", "base64"] = Field(
        "float",
        description="How vectors are asked for; base64 is smaller, not every server has it.",
    )
    embedding_timeout_seconds: float = Field(
        30, gt=0, description="Longest that one request may take."
    )
    embedding_max_batch_tokens: int = Field(
        16_384, ge=1, description="Tokens in one request; a single longer text goes alone."
    )
    embedding_max_batch_texts: int = Field(
        32, ge=1, le=2048, description="Texts in one request; many servers take no more than 32."
    )
    embedding_concurrency: int = Field(
        8, ge=1, le=1000, description="Requests at a time of one worker process."
    )
    embedding_requests_per_minute: int = Field(
        0, ge=0, description="Of all workers together, in any minute; 0: no limit."
    )
    embedding_tokens_per_minute: int = Field(
        0, ge=0, description="Of all workers together, in any minute; 0: no limit."
    )
    embedding_cache_days: int = Field(
        90, ge=1, description="A cached vector unused for longer is purged."
    )

    @field_validator("embedding_base_url")
    @classmethod
    def _is_plain_http(cls, url: str) -> str:
        parts = urlsplit(url)
        if url and (parts.scheme not in {"http", "https"} or not parts.hostname):
            raise ValueError("takes http://… or https://…")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("takes neither login nor query: the key goes into EMBEDDING_API_KEY")
        return url.rstrip("/")
