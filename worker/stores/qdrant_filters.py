"""What Qdrant is asked by: conditions on the payload of its points."""

from collections.abc import Sequence
from uuid import UUID

from qdrant_client import models

from worker.stores.vectors import VectorQuery

_MOST_DOCUMENTS = 1_000


def index_name(dataset_id: UUID, generation: int) -> str:
    """How an index of a dataset is called in the payload."""
    return f"{dataset_id}/{generation}"


def filter_of(query: VectorQuery) -> models.Filter:
    """What a point must have for a search to find it."""
    conditions = {"index": [index_name(query.dataset_id, query.generation)]}
    # More are left to the check: a request is not to grow with a dataset.
    if query.documents is not None and len(query.documents) <= _MOST_DOCUMENTS:
        conditions["document_id"] = [str(one) for one in query.documents]
    return where(**conditions)


def where(**conditions: Sequence[str]) -> models.Filter:
    """Points whose payload has one of these values, field by field."""
    return models.Filter(
        must=[
            models.FieldCondition(key=field, match=models.MatchAny(any=list(values)))
            for field, values in conditions.items()
        ]
    )
