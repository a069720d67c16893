"""What answering a question takes: collaborators as protocols, limits as numbers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from uuid import UUID

from celery import Celery
from sqlalchemy.orm import Session, sessionmaker

from worker.delivery.leased_run import KeepsLeases
from worker.providers.chat import ChatModel

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage that was found, as it was at that moment.

    Attributes:
        score: see ``docs/retrieval.md``.
        page: the one it begins on, from 1, where the format has pages.
    """

    dataset_id: UUID
    document_id: UUID
    document_name: str
    segment_id: UUID
    position: int
    page: int | None
    score: float
    content: str


@dataclass(frozen=True, slots=True)
class Extract:
    """A sentence of a passage that answers; ``number`` is the passage's, from 1."""

    text: str
    number: int


class Retriever(Protocol):
    """Searches one dataset."""

    def __call__(
        self, dataset_id: UUID, question: str, wishes: Mapping[str, Any]
    ) -> Sequence[Passage]:
        """The best passages, best first.

        Raises:
            NotFound: there is no such dataset.
            InvalidRequest: it cannot be searched that way.
            ServiceUnavailable: (transient) the embedding provider does not answer.
        """


class Stream(Protocol):
    """Where readers see the answer grow; see ``worker.stores.answer_stream``."""

    def start(self) -> None:
        """The work began, or began again."""

    def show_sources(self, sources: Sequence[dict[str, Any]]) -> None:
        """What the answer is made from."""

    def write(self, text: str) -> None:
        """More of the answer; raises ``LeaseLost`` when another worker writes it."""

    def wait(self, reason: str) -> None:
        """The work stopped, and will be tried again."""

    def end(self) -> None:
        """The answer ended, as its row says."""


class Streams(Protocol):
    """Opens streams."""

    def open(self, message_id: UUID, token: int, attempt: int) -> Stream:
        """The stream of an answer, for the owner of its lease."""


class Cancels(Protocol):
    """Stops work that nobody wants any more."""

    def run(self, message_id: UUID, work: Callable[[], Result]) -> Result:
        """Do the work; raises ``AnswerCancelled`` in the middle of it, if so asked."""


@dataclass(frozen=True, slots=True)
class AnswerLimits:
    """Attributes, in tokens by estimate unless they say otherwise.

    Attributes:
        passages: at most, of a question that does not say.
        passage_tokens: of all passages in a prompt.
        history_tokens: of the conversation so far.
        output_tokens: where the model stops.
        output_bytes: where we do.
        attempts: pick-ups of a question.
        deaths: workers that may die on it.
    """

    passages: int
    passage_tokens: int
    history_tokens: int
    output_tokens: int
    output_bytes: int
    attempts: int
    deaths: int


@dataclass(frozen=True, slots=True)
class AnswerNeeds:
    """Everything an answer touches.

    Attributes:
        model: of a tenant, for a message; gives ``None`` where none is configured.
        extract: sentences of passages that answer a question, in reading order.
        follow: has a conversation named and summarized, in the transaction of an answer.
        publish_end: tells readers of an end that no stream's owner tells of.
    """

    sessions: sessionmaker[Session]
    retrieve: Retriever
    model: Callable[[UUID, UUID], ChatModel | None]
    extract: Callable[[str, Sequence[str]], Sequence[Extract]]
    follow: Callable[[Session, UUID], None]
    streams: Streams
    cancels: Cancels
    publish_end: Callable[[UUID, int], None]
    celery: Celery
    heartbeat: KeepsLeases
    limits: AnswerLimits
    instructions: str
    temperature: float
    lease_seconds: float
