"""Answers: what goes into a prompt, where an answer ends, how it is shown."""

from pydantic import Field

from shared.settings.base import SettingsGroup


class AnswerSettings(SettingsGroup):
    answer_instructions: str = Field(
        "", description="Of your own, said to the model after the built-in ones."
    )
    answer_passages: int = Field(
        8, ge=1, le=50, description="Passages an answer is made from, if the question does not say."
    )
    answer_passage_tokens: int = Field(
        4000, ge=100, description="Tokens of passages in a prompt, all together."
    )
    answer_history_tokens: int = Field(
        1500, ge=0, description="Tokens of the conversation so far in a prompt; 0: none of it."
    )
    answer_max_output_tokens: int = Field(
        1024, ge=16, description="A longer answer is cut, and marked as such."
    )
    answer_max_bytes: int = Field(65_536, ge=256, description="The same, by the size of its text.")
    answer_temperature: float = Field(
        0.0, ge=0, le=2, description="How freely the model chooses its words."
    )
    answer_max_attempts: int = Field(
        6, ge=1, description="Pick-ups of a question before it ends as error."
    )
    answer_deadline_seconds: float = Field(
        900, gt=0, description="An answer that takes longer ends as error."
    )
    answer_flush_seconds: float = Field(
        0.03, ge=0.005, le=1, description="How long tokens are gathered before readers get them."
    )
    answer_cancel_seconds: float = Field(
        0.25, ge=0.05, le=5, description="How often a worker looks for answers to stop."
    )
    answer_stream_seconds: int = Field(
        3600, ge=60, description="How long an answer's stream outlives its last token in Redis."
    )
    answer_token_seconds: int = Field(
        3600, ge=10, description="How long a token that opens a tenant's answers is taken."
    )
