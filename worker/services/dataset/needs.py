"""What an indexing run takes: collaborators as protocols, sizes as numbers."""

from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol
from uuid import UUID

from sqlalchemy.orm import Session, sessionmaker

from worker.providers.embedder import Embedder
from worker.providers.parser import Parser
from worker.services.dataset.extracting import Limits
from worker.stores.vectors import VectorStore


class Files(Protocol):
    """Uploaded files by storage key."""

    def open(self, key: str) -> BinaryIO:
        """Open for reading.

        Raises:
            UnreadableFile: (permanent) there is no such file.
            ServiceUnavailable: (transient) the storage does not answer.
        """


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


class Progress(Protocol):
    """Where live displays read."""

    def publish(self, document_id: UUID, **fields: Any) -> None:
        """Append one entry."""


@dataclass(frozen=True, slots=True)
class IndexingNeeds:
    """Everything a run touches.

    Attributes:
        batch_segments: segments embedded and written in one transaction.
        max_segments: the most one document may become.
        lease_seconds: life of the lease; renewed with each batch.
        max_attempts: pick-ups of one version before the document ends.
    """

    sessions: sessionmaker[Session]
    files: Files
    parser: Parser
    embedders: Embedders
    vectors: VectorStore
    guard: Guard
    progress: Progress
    limits: Limits
    batch_segments: int
    max_segments: int
    lease_seconds: float
    max_attempts: int
