"""How a dataset is searched when the caller of a search does not say."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from shared.errors import InvalidRequest, NotFound
from shared.models import Dataset
from shared.models.dataset import ECONOMY
from shared.models.retrieval_model import (
    RetrievalModel,
    parse_retrieval_model,
    read_retrieval_model,
)
from shared.submitting.ids import AnyId, checked_id


def set_retrieval(
    session: Session, dataset_id: AnyId, given: RetrievalModel | Mapping[str, Any]
) -> RetrievalModel:
    """Set a dataset's defaults, in the caller's transaction; searches that begin later have them.

    Args:
        session: the caller's transaction.
        dataset_id: whose.
        given: ``search_method``, ``top_k``, ``score_threshold`` and ``score_threshold_enabled``
            as in Dify; what is left out is left to the search.

    Raises:
        InvalidRequest: it says something wrong, or the dataset cannot be searched so.
        NotFound: there is no such dataset.
    """
    dataset_id = checked_id("dataset_id", dataset_id)
    parsed = parse_retrieval_model(given)
    # Locked: a change of its index decides what it has to search.
    query = select(Dataset.indexing_technique).where(Dataset.id == dataset_id)
    technique = session.scalars(query.with_for_update(key_share=True)).one_or_none()
    if technique is None:
        raise NotFound(f"there is no dataset {dataset_id}")
    if technique == ECONOMY and parsed.method not in {None, "keyword"}:
        raise InvalidRequest(
            "an economy dataset has no vectors, so its search_method is keyword_search: "
            "give it vectors with change_dataset_index(…, 'add')"
        )
    session.execute(
        update(Dataset).where(Dataset.id == dataset_id).values(retrieval_model=parsed.as_json())
    )
    return parsed


def retrieval_of(session: Session, dataset_id: AnyId) -> RetrievalModel:
    """A dataset's defaults.

    Raises:
        InvalidRequest: what stands in the row is wrong, or the id is none.
        NotFound: there is no such dataset.
    """
    dataset_id = checked_id("dataset_id", dataset_id)
    stored = session.scalars(
        select(Dataset.retrieval_model).where(Dataset.id == dataset_id)
    ).one_or_none()
    if stored is None:
        raise NotFound(f"there is no dataset {dataset_id}")
    return read_retrieval_model(stored)
