"""What of a dataset decides how it is searched, and what a process remembers of it.

A search that remembers it needs no look at the dataset before it embeds its question. Nothing
that is remembered is believed: the statement that finds the passages says whether it still holds.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import Session, sessionmaker

from shared.errors import NotFound
from shared.models import Dataset

#: Datasets of which a process remembers something; beyond that it begins anew.
_MOST_REMEMBERED = 10_000

# Made once: making a statement takes longer than executing it.
_LOOK = select(
    Dataset.indexing_technique,
    Dataset.embedding_provider,
    Dataset.embedding_model,
    Dataset.doc_form,
    Dataset.index_generation,
    Dataset.vector_store,
    Dataset.retrieval_model,
    Dataset.last_searched_at < func.now() - func.make_interval(0, 0, 0, 0, 1),
).where(Dataset.id == bindparam("id"))


@dataclass(frozen=True, slots=True)
class SearchedDataset:
    """What of a dataset decides how it is searched."""

    technique: str
    provider: str
    model: str
    doc_form: str
    generation: int
    vector_store: str | None
    #: As it is stored; see ``RetrievalModel``.
    retrieval: Mapping[str, Any]
    #: Whether its last search that was noted is more than an hour ago.
    is_use_due: bool = field(compare=False)


@dataclass(slots=True)
class Remembered:
    """A dataset, and the dimension of its index over vectors; ``None``: it has none."""

    dataset: SearchedDataset
    dimension: int | None


class Memory:
    """What a process remembers of the datasets that it searched; for all its threads."""

    def __init__(self) -> None:
        self._known: dict[UUID, Remembered] = {}

    def get(self, dataset_id: UUID) -> Remembered | None:
        """What is remembered of one."""
        return self._known.get(dataset_id)

    def keep(self, dataset_id: UUID, what: Remembered) -> None:
        """Remember, instead of what was before."""
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        self._known[dataset_id] = what

    def forget(self, dataset_id: UUID) -> None:
        """Look at it anew the next time."""
        self._known.pop(dataset_id, None)


def look(session: Session, dataset_id: UUID) -> SearchedDataset:
    """The dataset as it is.

    Raises:
        NotFound: there is none.
    """
    row = session.execute(_LOOK, {"id": dataset_id}).one_or_none()
    if row is None:
        raise NotFound(f"there is no dataset {dataset_id}")
    return SearchedDataset(*row)


@contextmanager
def statement(sessions: "sessionmaker[Session]") -> Iterator[Session]:
    """A session for single queries: without a transaction each is one round trip, not three."""
    with sessions() as session:
        session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        yield session


@contextmanager
def snapshot(sessions: "sessionmaker[Session]") -> Iterator[Session]:
    """A session in which every query sees the same moment."""
    with sessions() as session:
        session.connection(
            execution_options={"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        )
        yield session
