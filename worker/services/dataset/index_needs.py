"""What changing a dataset's index takes, and what is known of one change."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from shared.models import Dataset, DatasetIndexBuild
from shared.submitting.dataset_index import IndexAction
from worker.services.dataset.needs import Embedders, Heartbeat
from worker.stores.vectors import VectorStore


class Publish(Protocol):
    """The outbox."""

    def __call__(
        self, session: Session, task: str, args: Sequence[Any] = (), *, delay_seconds: float = 0.0
    ) -> UUID:
        """Write a message in the session's transaction; returns its id."""


@dataclass(frozen=True, slots=True)
class IndexNeeds:
    """Everything a change touches.

    Attributes:
        batch_segments: texts embedded and written in one transaction.
        lease_seconds: life of the lease of a document's part.
    """

    sessions: sessionmaker[Session]
    embedders: Embedders
    vectors: VectorStore
    heartbeat: Heartbeat
    publish: Publish
    batch_segments: int
    lease_seconds: float


@dataclass(frozen=True, slots=True)
class Build:
    """One change under way."""

    id: UUID
    dataset_id: UUID
    action: IndexAction
    generation: int
    provider: str
    model: str

    @property
    def has_vectors(self) -> bool:
        """Whether it makes vectors; the other kind makes keywords."""
        return self.action is not IndexAction.REMOVE


def find_build(session: Session, build_id: UUID) -> Build | None:
    """A change, if it is still under way."""
    row = session.execute(
        select(
            DatasetIndexBuild.id,
            DatasetIndexBuild.dataset_id,
            DatasetIndexBuild.action,
            DatasetIndexBuild.generation,
            DatasetIndexBuild.embedding_provider,
            DatasetIndexBuild.embedding_model,
        )
        .join(Dataset, Dataset.id == DatasetIndexBuild.dataset_id)
        .where(DatasetIndexBuild.id == build_id, DatasetIndexBuild.status == "running")
    ).one_or_none()
    if row is None:
        return None
    return Build(
        row.id,
        row.dataset_id,
        IndexAction(row.action),
        row.generation,
        row.embedding_provider,
        row.embedding_model,
    )
