"""Generation: the chat model of tenants that have none of their own, and what it may cost."""

from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from shared.settings.base import SettingsGroup


class GenerationSettings(SettingsGroup):
    generation_model: str = Field(
        "", description="The chat model; empty: sentences of the texts themselves are picked."
    )
    generation_base_url: str = Field(
        "https://api.openai.com/v1", description="Where it answers, up to the version."
    )
    generation_api_key: SecretStr = Field(
        SecretStr(""), description="Sent as a bearer token; empty: none is."
    )
    generation_context_tokens: int = Field(
        8192, ge=1024, description="Tokens the model takes, its answer included."
    )
    generation_silence_seconds: float = Field(
        60, gt=0, description="Longest silence of the provider that is waited for."
    )
    generation_call_seconds: float = Field(
        300, gt=0, description="Longest that one call may take, its stream included."
    )
    generation_max_answer_bytes: int = Field(
        1_048_576, ge=1024, description="A longer answer is cut, or refused where it must be whole."
    )
    generation_connections: int = Field(
        256, ge=1, description="Connections to one provider, of each worker process."
    )
    generation_requests_per_minute: int = Field(
        0, ge=0, description="To one provider, of all workers, in any minute; 0: no limit."
    )
    generation_tokens_per_minute: int = Field(
        0, ge=0, description="Likewise; the longest answer allowed counts, too. 0: no limit."
    )
    generation_tokens_per_day: int = Field(
        0, ge=0, description="Of one tenant, a day of UTC; 0: no limit."
    )
    generation_usage_days: int = Field(
        400, ge=2, description="Age at which the record of a call is deleted."
    )
    generation_input_cost_per_million: float = Field(
        0, ge=0, description="Cost of a million tokens sent, in a currency of your choice."
    )
    generation_output_cost_per_million: float = Field(
        0, ge=0, description="Cost of a million tokens the model writes."
    )

    generation_temperature: float = Field(
        0.2, ge=0, le=2, description="How freely the model chooses its words."
    )
    generation_output_tokens: int = Field(
        600, ge=16, description="Where it stops: of a summary, or of one passage's questions."
    )
    generation_summary_max_characters: int = Field(
        2000, ge=200, le=50_000, description="Longest summary of a document or a conversation."
    )
    generation_pairs_per_passage: int = Field(
        5, ge=1, le=50, description="Questions written for one passage of a qa_model document."
    )
    generation_titles: bool = Field(
        default=True, description="Conversations are named after their first answer."
    )
    generation_summary_turns: int = Field(
        6, ge=0, description="Answers after which a conversation is summarized; 0: never."
    )
    generation_max_attempts: int = Field(
        10, ge=1, description="Pick-ups of one work before it ends."
    )

    @field_validator("generation_base_url")
    @classmethod
    def _is_plain_http(cls, url: str) -> str:
        return plain_url(url, key="GENERATION_API_KEY")


def plain_url(url: str, key: str) -> str:
    """A provider's address without its last slash.

    Args:
        url: the address.
        key: where its key belongs, for the message.

    Raises:
        ValueError: not http, or it carries a login or a query.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("takes http://… or https://…")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(f"takes neither login nor query: the key goes into {key}")
    return url.rstrip("/")
