"""What a span is made of: model, usage, cost, documents, events, feedback."""

import math
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
)

#: Nanoseconds since 1970 have 18 digits or more from 1973 on: fewer are another unit.
_LEAST_NS = 10**17
_MOST_NS = 2**63 - 1
_DEPTH = 64


class SpanKind(StrEnum):
    """What a span does, in the words of OpenInference."""

    CHAIN = "chain"
    LLM = "llm"
    TOOL = "tool"
    RETRIEVER = "retriever"
    EMBEDDING = "embedding"
    RERANKER = "reranker"
    AGENT = "agent"
    GUARDRAIL = "guardrail"


class SpanStatus(StrEnum):
    """How it ended, in the words of OpenTelemetry."""

    UNSET = "unset"
    OK = "ok"
    ERROR = "error"


class TraceKind(StrEnum):
    """What kind of run a trace is."""

    CHAT = "chat"
    COMPLETION = "completion"
    WORKFLOW = "workflow"
    RETRIEVAL = "retrieval"


def nanoseconds(given: Any) -> int:
    """Unix time in nanoseconds, of an aware datetime or of that very number.

    Raises:
        ValueError: it is neither, or another unit.
    """
    if isinstance(given, datetime):
        if given.tzinfo is None:
            raise ValueError("a time has a time zone: datetime.now(UTC)")
        # Not by float: it has 53 bits, nanoseconds need 61.
        seconds = int(given.replace(microsecond=0).timestamp())
        given = (seconds * 1_000_000 + given.microsecond) * 1000
    if isinstance(given, bool) or not isinstance(given, int):
        raise ValueError("a time is an aware datetime, or whole nanoseconds since 1970")  # noqa: TRY004 - pydantic's
    if not _LEAST_NS <= given <= _MOST_NS:
        raise ValueError(f"{given} is no time in nanoseconds since 1970: another unit?")
    return given


def plain(given: Any) -> Any:
    """What JSON and protobuf can say: no NaN, no lone surrogate, nothing too deep.

    Raises:
        ValueError: it is nested too deeply, or holds a number that is none.
    """
    return _plain(given, 0)


def _plain(given: Any, depth: int) -> Any:
    if depth > _DEPTH:
        raise ValueError(f"nested more than {_DEPTH} levels deep")
    if isinstance(given, str):
        return storable_text(given)
    if isinstance(given, float) and not math.isfinite(given):
        raise ValueError(f"{given} is nothing that JSON can say")
    if isinstance(given, dict):
        return {_plain(key, depth): _plain(value, depth + 1) for key, value in given.items()}
    if isinstance(given, list | tuple):
        return [_plain(value, depth + 1) for value in given]
    return given


def storable_text(text: str) -> str:
    """Text that any receiver takes: lone surrogates replaced, NUL left out."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "replace").decode().replace("\0", "")


#: Whatever JSON can say.
Json = Annotated[JsonValue, BeforeValidator(plain)]
Attributes = Annotated[dict[str, JsonValue], BeforeValidator(plain)]
Text = Annotated[str, AfterValidator(storable_text)]
Name = Annotated[
    str, AfterValidator(storable_text), StringConstraints(min_length=1, max_length=512)
]
Label = Annotated[
    str, AfterValidator(storable_text), StringConstraints(min_length=1, max_length=256)
]
Nanoseconds = Annotated[int, BeforeValidator(nanoseconds)]
Tokens = Annotated[int, Field(ge=0, le=2**53)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Part(BaseModel):
    """What all of a trace has in common: unknown fields are mistakes, nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelCall(Part):
    """Which model was asked, and how."""

    #: ``openai``, ``anthropic``, ``aws.bedrock`` …: OpenTelemetry's gen_ai.provider.name.
    provider: Label | None = None
    request_model: Label | None = None
    response_model: Label | None = None
    #: ``temperature``, ``max_tokens`` …
    parameters: Attributes = Field(default_factory=dict)


class Usage(Part):
    """Tokens; the cached ones are part of the input, the reasoning ones of the output."""

    input_tokens: Tokens | None = None
    output_tokens: Tokens | None = None
    total_tokens: Tokens | None = None
    cached_input_tokens: Tokens | None = None
    reasoning_tokens: Tokens | None = None

    @property
    def total(self) -> int | None:
        """As it was said, else of input and output."""
        if self.total_tokens is not None:
            return self.total_tokens
        if self.input_tokens is None and self.output_tokens is None:
            return None
        return (self.input_tokens or 0) + (self.output_tokens or 0)


class Cost(Part):
    """Money."""

    input: Amount | None = None
    output: Amount | None = None
    total: Amount | None = None
    currency: Annotated[str, StringConstraints(pattern="^[A-Z]{3}$")] = "USD"


class RetrievedDocument(Part):
    """One passage that a retriever or a reranker returned."""

    id: Label | None = None
    content: Text | None = None
    score: Annotated[float, Field(allow_inf_nan=False)] | None = None
    metadata: Attributes = Field(default_factory=dict)


class SpanEvent(Part):
    """Something that happened at one moment of a span."""

    name: Name
    time_ns: Nanoseconds
    attributes: Attributes = Field(default_factory=dict)


class Feedback(Part):
    """What a person or a judge thought of it."""

    name: Label
    #: A number, a yes or no, or a word of a scale.
    score: bool | Annotated[float, Field(allow_inf_nan=False)] | Label | None = None
    comment: Text | None = None
