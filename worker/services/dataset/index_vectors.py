"""The vectors of a new index: taken over from the one in use, or made by the model."""

import logging
from collections.abc import Sequence
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from worker.services.dataset.index_needs import Build, IndexNeeds
from worker.services.dataset.index_texts import StoredText

logger = logging.getLogger(__name__)


def vectors_of(
    build: Build, document_id: UUID, version: int, texts: Sequence[StoredText], needs: IndexNeeds
) -> NDArray[np.float32]:
    """The vectors of some texts of a version that serves, in their order.

    Where the model stays the same they are those that search uses; one that is lacking
    there is made anew.

    Raises:
        ServiceUnavailable: (transient) a vector store, or the embedding provider, does not answer.
    """
    known = _in_use(build, document_id, version, texts, needs) if build.copies else {}
    new = [one for one in texts if one.id not in known]
    if new:
        if build.copies:
            logger.warning(
                "document %s: %s vectors are lacking in %s, and are made anew",
                document_id,
                len(new),
                needs.vectors.at(build.source.vector_store).name,
                extra={"action": "index.lacking", "document_id": str(document_id)},
            )
        embedder = needs.embedders(build.provider, build.model)
        made = embedder.embed([one.content for one in new]).vectors
        known |= {one.id: vector for one, vector in zip(new, made, strict=True)}
    return np.stack([known[one.id] for one in texts])


def _in_use(
    build: Build, document_id: UUID, version: int, texts: Sequence[StoredText], needs: IndexNeeds
) -> dict[UUID, NDArray[np.float32]]:
    store = needs.vectors.at(build.source.vector_store)
    with needs.sessions() as session:
        ids = [one.id for one in texts]
        return store.fetch(session, document_id, version, build.source.generation, ids)
