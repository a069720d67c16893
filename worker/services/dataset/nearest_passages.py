"""A search by vector in one statement, where the store of the vectors allows it."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Row
from sqlalchemy.orm import Session, sessionmaker

from shared.errors import NotFound
from shared.models.process_rule import DocForm
from worker.services.dataset.found_passages import FoundPassage
from worker.services.dataset.search_options import SearchMethod, SearchOptions
from worker.services.dataset.searched_dataset import (
    Memory,
    Remembered,
    SearchedDataset,
    statement,
)
from worker.stores import pgvector_passages
from worker.stores.vector_stores import VectorStores
from worker.stores.vectors import VectorQuery

_DATASET_COLUMNS = 8


@dataclass(frozen=True, slots=True)
class Nearest:
    """The dataset at the moment of the search, and what was nearest then.

    Attributes:
        passages: best first; ``None`` when the index did not give as many as were asked for,
            and vectors have to be read.
    """

    dataset: SearchedDataset
    passages: list[FoundPassage] | None


def is_enough(
    known: Remembered, vector: NDArray[np.float32], stores: VectorStores, options: SearchOptions
) -> bool:
    """Whether one statement answers: by vector, of all documents, each segment with its own."""
    dataset = known.dataset
    return (
        options.method == SearchMethod.VECTOR
        and options.documents is None
        and not options.metadata
        and dataset.doc_form != DocForm.HIERARCHICAL
        and known.dimension in {None, len(vector)}
        and not stores.at(dataset.vector_store).is_external
    )


def find_nearest(
    dataset_id: UUID,
    vector: NDArray[np.float32],
    known: Remembered,
    sessions: sessionmaker[Session],
    memory: Memory,
    options: SearchOptions,
) -> Nearest:
    """The nearest passages; see ``is_enough``.

    Raises:
        NotFound: the dataset is gone.
    """
    query = VectorQuery(dataset_id, known.dataset.generation, vector, options.passages)
    with statement(sessions) as session:
        rows = pgvector_passages.nearest_passages(session, query, known.dimension)
    if not rows:
        raise NotFound(f"there is no dataset {dataset_id}")
    first = rows[0]
    dataset = SearchedDataset(*first[:_DATASET_COLUMNS])
    if dataset == known.dataset and first.index_dimension != known.dimension:
        # Found rightly all the same: an index that is missed, or not known of, costs time only.
        memory.keep(dataset_id, Remembered(dataset, first.index_dimension))
    found = [] if first.segment_id is None else rows
    if known.dimension is not None and len(found) < query.limit:
        return Nearest(dataset, None)
    least = options.score_threshold
    passages = (_passage(row) for row in found)
    return Nearest(dataset, [one for one in passages if least is None or one.score >= least])


def _passage(row: Row[Any]) -> FoundPassage:
    return FoundPassage(
        document_id=row.document_id,
        document_name=row.document_name,
        segment_id=row.segment_id,
        position=row.position,
        page=row.page,
        score=-float(row.distance),
        content=row.content,
        answer=row.answer,
        is_summary=row.is_summary,
    )
