"""A search by vector in one statement, where the store of the vectors allows it."""

from dataclasses import dataclass
from operator import attrgetter
from uuid import UUID

import numpy as np
import orjson
from numpy.typing import NDArray
from sqlalchemy import Engine

from shared.models.process_rule import DocForm
from worker.services.dataset.found_passages import FoundPassage
from worker.services.dataset.search_options import SearchMethod, SearchOptions
from worker.services.dataset.searched_dataset import Memory, Remembered, SearchedDataset
from worker.stores import pgvector_passages
from worker.stores.vector_stores import VectorStores
from worker.stores.vectors import VectorQuery


@dataclass(frozen=True, slots=True)
class Nearest:
    """The dataset at the moment of the search, and what was nearest then.

    Attributes:
        passages: best first; ``None`` when nothing was found, or the index did not give as many
            as were asked for: vectors have to be read, and the dataset looked at.
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
    engine: Engine,
    memory: Memory,
    options: SearchOptions,
) -> Nearest:
    """The nearest passages; see ``is_enough``."""
    query = VectorQuery(dataset_id, known.dataset.generation, vector, options.passages)
    rows = pgvector_passages.nearest_passages(engine, query, known.dimension)
    if not rows:
        return Nearest(known.dataset, None)
    described, dimension, *_ = rows[0]
    dataset = SearchedDataset(*orjson.loads(described))
    if dataset == known.dataset and dimension != known.dimension:
        # Found rightly all the same: an index that is missed, or not known of, costs time only.
        memory.keep(dataset_id, Remembered(dataset, dimension))
    if known.dimension is not None and len(rows) < query.limit:
        return Nearest(dataset, None)
    least = options.score_threshold
    passages = [FoundPassage(*row[2:]) for row in rows]
    # The index compares with half of the precision.
    passages.sort(key=attrgetter("score"), reverse=True)
    return Nearest(dataset, [one for one in passages if least is None or one.score >= least])
