"""What changing a dataset's index takes, and what is known of one change."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from shared.models import Dataset, DatasetIndexBuild
from shared.models.dataset import ECONOMY
from shared.submitting.dataset_index import IndexAction
from worker.delivery.leased_run import KeepsLeases
from worker.services.dataset.needs import Embedders
from worker.stores.vector_stores import VectorStores


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
    vectors: VectorStores
    heartbeat: KeepsLeases
    publish: Publish
    batch_segments: int
    lease_seconds: float


@dataclass(frozen=True, slots=True)
class Source:
    """The index that search uses while another one is made.

    Attributes:
        vector_store: where it is; ``None`` where VECTOR_STORE says.
    """

    generation: int
    vector_store: str | None
    technique: str
    provider: str
    model: str


@dataclass(frozen=True, slots=True)
class Build:
    """One change under way.

    Attributes:
        vector_store: where the new index is made; ``None`` where VECTOR_STORE says.
        samples: of a migration, which is verified: how many searches are compared.
        batch_segments: texts of one transaction; ``None`` as ``IndexNeeds`` has it.
        source: the index in use.
    """

    id: UUID
    dataset_id: UUID
    action: IndexAction
    generation: int
    provider: str
    model: str
    vector_store: str | None
    samples: int | None
    batch_segments: int | None
    source: Source

    @property
    def has_vectors(self) -> bool:
        """Whether it makes vectors; the other kind makes keywords."""
        return self.action is not IndexAction.REMOVE

    @property
    def copies(self) -> bool:
        """Whether the vectors of the index in use are taken over: the model stays the same."""
        source = self.source
        is_same = (source.provider, source.model) == (self.provider, self.model)
        return self.samples is not None and is_same and source.technique != ECONOMY


def find_build(session: Session, build_id: UUID) -> Build | None:
    """A change, if it is still under way."""
    row = session.execute(
        select(DatasetIndexBuild, Dataset)
        .join(Dataset, Dataset.id == DatasetIndexBuild.dataset_id)
        .where(DatasetIndexBuild.id == build_id, DatasetIndexBuild.status == "running")
        .execution_options(populate_existing=True)
    ).one_or_none()
    if row is None:
        return None
    build, dataset = row.DatasetIndexBuild, row.Dataset
    return Build(
        build.id,
        build.dataset_id,
        IndexAction(build.action),
        build.generation,
        build.embedding_provider,
        build.embedding_model,
        build.vector_store,
        build.samples,
        build.batch_segments,
        Source(
            dataset.index_generation,
            dataset.vector_store,
            dataset.indexing_technique,
            dataset.embedding_provider,
            dataset.embedding_model,
        ),
    )
