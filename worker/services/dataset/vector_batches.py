"""The vectors of a batch of passages, and the index they are for."""

from collections.abc import Sequence
from uuid import UUID

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.errors import IndexReplaced
from shared.models import Dataset
from worker.services.dataset import child_chunks, segments
from worker.services.dataset.child_chunks import Child
from worker.services.dataset.claiming import Job
from worker.services.dataset.embedding import EmbeddedPassage
from worker.stores.vectors import VectorBatch, VectorStore


def segment_ids(job: Job, first_position: int, embedded: Sequence[EmbeddedPassage]) -> list[UUID]:
    """The ids of consecutive segments of the version being made."""
    hashes = [one.content_hash for one in embedded]
    return segments.segment_ids(job.document_id, job.version, first_position, hashes)


def vectors_of(
    job: Job, ids: Sequence[UUID], embedded: Sequence[EmbeddedPassage], children: Sequence[Child]
) -> VectorBatch:
    """The vectors that segments have, or their children in their place; none that is carried."""
    found_by = [
        *((one_id, one.vector) for one_id, one in zip(ids, embedded, strict=True)),
        *((child.id, child.embedded.vector) for child in children),
    ]
    made = [(one_id, vector) for one_id, vector in found_by if vector is not None]
    vectors = np.stack([vector for _, vector in made]) if made else np.empty((0, 0), np.float32)
    return VectorBatch(job.place, [one_id for one_id, _ in made], vectors)


def sources_of(
    ids: Sequence[UUID], embedded: Sequence[EmbeddedPassage], children: Sequence[Child]
) -> dict[UUID, UUID]:
    """Whose vectors are taken over, by the segments' or children's ids."""
    found_by = [
        *zip(ids, embedded, strict=True),
        *((child.id, child.embedded) for child in children),
    ]
    return {
        one_id: one.source
        for one_id, one in found_by
        if one.vector is None and one.source is not None
    }


def send(
    vectors: VectorStore, job: Job, first_position: int, embedded: Sequence[EmbeddedPassage]
) -> None:
    """Write a batch's vectors ahead of its rows, where they cannot share a transaction.

    Raises:
        ServiceUnavailable: (transient) the vector store does not answer.
    """
    if vectors.is_external and job.has_vectors:
        ids = segment_ids(job, first_position, embedded)
        children = list(child_chunks.children_of(ids, embedded))
        vectors.send(vectors_of(job, ids, embedded, children))


def require_same_index(session: Session, job: Job) -> None:
    """Keep the dataset's index from being replaced until this transaction has ended.

    Raises:
        IndexReplaced: (transient) it was replaced since the claim.
    """
    query = (
        select(Dataset.index_generation)
        .where(Dataset.id == job.dataset_id)
        .with_for_update(read=True, key_share=True)
    )
    if session.scalar(query) != job.generation:
        raise IndexReplaced
