"""What an indexing run takes: collaborators as protocols, sizes as numbers."""

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol
from uuid import UUID

from sqlalchemy.orm import Session, sessionmaker

from worker.delivery.lease import Lease
from worker.delivery.leased_run import KeepsLeases
from worker.providers.embedder import Embedder
from worker.providers.parser import Block, Parser
from worker.services.dataset.extracting import Limits
from worker.stores.vector_stores import VectorStores


class Files(Protocol):
    """Uploaded files by storage key."""

    def open(self, key: str) -> BinaryIO:
        """Open for reading.

        Raises:
            UnreadableFile: (permanent) there is no such file.
            ServiceUnavailable: (transient) the storage does not answer.
        """


class ParseTogether(Protocol):
    """Parses small files in one go."""

    def __call__(self, files: Sequence[tuple[bytes, str]]) -> Generator[Sequence[Block] | None]:
        """The blocks of contents with their names, as far as they go without an error."""


class Embedders(Protocol):
    """Embedders by what a dataset names."""

    def __call__(self, provider: str, model: str) -> Embedder:
        """The dataset's embedder.

        Raises:
            ConfigurationError: no such provider or model.
        """


class Guard(Protocol):
    """The courtesy flag that a document is being indexed."""

    def refresh(self, document_id: UUID, version: int) -> None:
        """Prolong it."""

    def release(self, document_id: UUID, version: int) -> None:
        """Take it away, if it is still this version's."""

    def release_all(self, versions: Iterable[tuple[UUID, int]]) -> None:
        """Take several documents' away, in one round trip."""


class Heartbeat(KeepsLeases, Protocol):
    """What keeps leases alive."""

    def keep(self, lease: Lease, *, ends_run: bool = True) -> AbstractContextManager[None]:
        """Renew the lease while the block runs; end the task when it is lost, or not."""


class Announce(Protocol):
    """The way of documents back into the queue."""

    def __call__(
        self, session: Session, ids: Sequence[UUID], *, delay_seconds: float = 0.0
    ) -> None:
        """Announce documents that wait, when the session's transaction commits."""


class Progress(Protocol):
    """Where live displays read."""

    def publish(self, document_id: UUID, **fields: Any) -> None:
        """Append one entry."""

    def publish_all(self, entries: Iterable[tuple[UUID, Mapping[str, Any]]]) -> None:
        """Append entries to several documents' streams, in one round trip."""


class QuestionWriter(Protocol):
    """Writes the questions that passages answer, for documents of form ``qa_model``."""

    def write(self, passages: Sequence[str]) -> list[list[tuple[str, str]]] | None:
        """Pairs of question and answer, a list for each passage, in order.

        An empty list says that the passage answers nothing; a model that failed says
        so by an error, never by an empty list. ``None`` says that they are being written:
        the document is announced again when they are.

        Raises:
            ServiceUnavailable: (transient) the model does not answer.
            Permanent: they cannot be written.
        """


class QuestionWriters(Protocol):
    """Who writes questions, by tenant and document."""

    def __call__(self, tenant_id: UUID, document_id: UUID) -> QuestionWriter | None:
        """The document's; ``None`` where nothing writes questions."""


def no_question_writer(tenant_id: UUID, document_id: UUID) -> None:
    """Nothing writes questions."""


@dataclass(frozen=True, slots=True)
class IndexingNeeds:
    """Everything a run touches.

    Attributes:
        batch_segments: segments embedded and written in one transaction.
        max_segments: the most one document may become.
        keywords: whether datasets with vectors get keywords too.
        lease_seconds: life of the lease; renewed with each batch.
        max_attempts: pick-ups of one version before the document ends.
        max_deaths: workers that may die on it before it ends.
        max_parent_characters: where a parent ends that is to be the whole document.
        question_writers: who writes questions for ``qa_model`` documents that are no tables.
        parse_together: as the parser, of several small files; unset, each is parsed by itself.
    """

    sessions: sessionmaker[Session]
    files: Files
    parser: Parser
    embedders: Embedders
    vectors: VectorStores
    guard: Guard
    progress: Progress
    limits: Limits
    batch_segments: int
    max_segments: int
    lease_seconds: float
    max_attempts: int
    max_deaths: int
    heartbeat: Heartbeat
    announce: Announce
    max_parent_characters: int
    keywords: bool = True
    question_writers: QuestionWriters = no_question_writer
    parse_together: ParseTogether | None = None
