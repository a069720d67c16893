"""The vector store protocol."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class VectorBatch:
    """Vectors of one version of one document.

    Attributes:
        ids: one a vector; writing an id again replaces its vector.
        vectors: shape (ids, dimension), float32, unit length.
    """

    dataset_id: UUID
    document_id: UUID
    version: int
    ids: Sequence[UUID]
    vectors: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Match:
    """A segment that a search found; ``score`` is the cosine, at most 1."""

    id: UUID
    score: float


class VectorStore(Protocol):
    """Where vectors live. Search sees the active version of enabled documents only.

    Disabled segments are left out inside the search, so that it gives as many as asked for.
    """

    def upsert(self, session: Session, batch: VectorBatch) -> None:
        """Write a batch; with the caller's transaction where the store can."""

    def delete_other_versions(self, session: Session, document_id: UUID, keep: int | None) -> None:
        """Delete the document's vectors of every version but ``keep``."""

    def fetch(self, session: Session, ids: Sequence[UUID]) -> dict[UUID, NDArray[np.float32]]:
        """The vectors of these segments, those that exist."""

    def search(
        self,
        session: Session,
        dataset_id: UUID,
        query: NDArray[np.float32],
        limit: int,
        *,
        documents: Sequence[UUID] | None = None,
    ) -> list[Match]:
        """The nearest segments of a dataset, or of ``documents`` of it, best first."""
