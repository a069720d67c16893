"""What background generation takes: collaborators as arguments, limits as numbers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from celery import Celery
from sqlalchemy.orm import Session, sessionmaker

from worker.delivery.leased_run import KeepsLeases
from worker.providers.chat import ChatModel
from worker.providers.embedder import Embedder


class Models(Protocol):
    """Chat models by who pays."""

    def __call__(self, tenant_id: UUID, purpose: str, subject_id: UUID | None) -> ChatModel | None:
        """The tenant's; ``None`` where none is configured.

        Raises:
            ConfigurationError: its key cannot be read.
        """


@dataclass(frozen=True, slots=True)
class GenerationNeeds:
    """Everything a work touches.

    Attributes:
        embedder: a local one, to compare sentences where there is no model.
        output_tokens: where the model stops: of a summary, or of a passage's pairs.
        max_characters: of a summary.
        max_pairs: of one passage.
        max_attempts: pick-ups of a work before it ends.
        max_deaths: workers that may die on it before it ends.
    """

    sessions: sessionmaker[Session]
    models: Models
    embedder: Callable[[], Embedder]
    celery: Celery
    heartbeat: KeepsLeases
    lease_seconds: float
    max_attempts: int
    max_deaths: int
    output_tokens: int
    max_characters: int
    max_pairs: int
    temperature: float
