"""Chat models as services see them."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import BaseModel

Role = Literal["system", "user", "assistant"]
#: ``length``: the answer was cut, by the model or by a limit of ours.
FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of a prompt."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that a call cost.

    Attributes:
        is_estimated: the provider did not say, we counted.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    is_estimated: bool = False


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer.

    Attributes:
        parsed: the answer as the schema that was asked for.
        usage: of all calls it took.
    """

    text: str
    usage: Usage
    finish_reason: FinishReason
    parsed: BaseModel | None = None


@dataclass(frozen=True, slots=True)
class ChatChunk:
    """A piece of an answer; the last one has a ``finish_reason``, and the usage."""

    text: str
    finish_reason: FinishReason | None = None
    usage: Usage | None = None


class ChatModel(Protocol):
    """One model for one tenant; what it spends is recorded.

    Both calls raise:
        BudgetExceeded: (transient) the tenant's tokens of the day are used up.
        RateLimited: (transient) the provider's rate is; carries ``retry_after_seconds``.
        ServiceUnavailable: (transient) it does not answer, breaks off, or is too slow.
        AnswerUnusable: (transient) it answers nothing that can be read.
        ModelRefused: (permanent) the model does not want to.
        PromptTooLong: (permanent) the messages are longer than it takes.
        ProviderRefused: (permanent) a wrong key, address or model.
    """

    @property
    def name(self) -> str:
        """The model's name, as the provider knows it."""

    @property
    def context_tokens(self) -> int:
        """Tokens it takes, its answer included."""

    def complete(
        self,
        messages: Sequence[ChatMessage],
        *,
        max_output_tokens: int,
        temperature: float = 0.0,
        schema: type[BaseModel] | None = None,
    ) -> Completion:
        """The whole answer.

        Args:
            messages: the prompt.
            max_output_tokens: where the model stops.
            temperature: how freely it chooses.
            schema: what the answer must be; it is asked once to repair one that is not.
        """

    def stream(
        self, messages: Sequence[ChatMessage], *, max_output_tokens: int, temperature: float = 0.0
    ) -> AbstractContextManager[Iterator[ChatChunk]]:
        """The answer in pieces; leaving the block ends the request upstream, too.

        It is open when the provider has begun to answer; what fails later is raised by
        the iterator. An answer that breaks off never ends as if it were whole.
        """


@dataclass(slots=True)
class Spending:
    """What one call upstream costs; the provider writes what it knows, zero if nothing."""

    usage: Usage


class Meter(Protocol):
    """Where spending is recorded."""

    def spend(
        self, model: str, input_tokens: int, max_output_tokens: int
    ) -> AbstractContextManager[Spending]:
        """Record one call: before it as what it may cost, after it as what it did.

        Raises:
            BudgetExceeded: (transient) it may cost more than is left of the day.
        """


class Unmetered:
    """Records nothing."""

    @contextmanager
    def spend(self, model: str, input_tokens: int, max_output_tokens: int) -> Iterator[Spending]:  # noqa: ARG002 - the protocol's
        """Go ahead."""
        yield Spending(Usage())
