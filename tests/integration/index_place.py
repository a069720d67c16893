"""A dataset with documents whose index is changed, message by message, in this process."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from flask import Flask
from qdrant_client import QdrantClient
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from shared.models import db
from shared.submitting.dataset_index import change_dataset_index
from tests.fixtures.application import Submit
from worker.providers.embedder import Embedder, Embeddings
from worker.services.dataset.found_passages import FoundPassage
from worker.services.dataset.index_building import build_documents
from worker.services.dataset.index_changing import change_index
from worker.services.dataset.index_cleaning import clean_index
from worker.services.dataset.index_needs import IndexNeeds
from worker.services.dataset.indexing import index_document
from worker.services.dataset.needs import IndexingNeeds
from worker.services.dataset.retrieval import RetrievalNeeds, search
from worker.services.dataset.search_options import SearchOptions
from worker.stores.qdrant import QdrantVectorStore
from worker.stores.vector_stores import VectorStores
from worker.stores.vectors import VectorStore
from worker.wiring import embedder, index_needs, indexing_needs, retrieval_needs

SMALL = 32
BY_VECTOR = SearchOptions("vector")


class SmallEmbedder:
    """Another model: the first components of the real one's vectors; calls back before a batch."""

    is_costly = False

    def __init__(self, before: Callable[[Sequence[str]], None]) -> None:
        self._real: Embedder = embedder("wordllama", "l2_supercat_256")
        self.model, self.dimension, self._before = "small/32", SMALL, before

    def embed(self, texts: Sequence[str]) -> Embeddings:
        self._before(texts)
        made = self._real.embed(texts)
        vectors = made.vectors[:, :SMALL].copy()
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return Embeddings(vectors, made.tokens)

    def count_tokens(self, text: str) -> int:
        return self._real.count_tokens(text)


@dataclass
class IndexPlace:
    """The services on one store, and the messages between them."""

    dataset_id: UUID
    session: Session
    submit: Submit
    store: VectorStore
    needs: IndexNeeds
    indexing: IndexingNeeds
    retrieval: RetrievalNeeds
    before: Callable[[Sequence[str]], None] = lambda _: None
    delivered: list[tuple[str, list[Any]]] = field(default_factory=list)

    def add(self, **documents: str) -> dict[str, UUID]:
        """Submit documents and index them."""
        submissions = self.submit(
            {f"{name}.txt": text.encode() for name, text in documents.items()}
        )
        self.one("DELETE FROM outbox")
        for submission in submissions:
            index_document(submission.document_id, self.dataset_id, self.indexing)
        return {one.name.removesuffix(".txt"): one.document_id for one in submissions}

    def change(self, action: str, provider: str | None = None, model: str | None = None) -> UUID:
        with self.needs.sessions.begin() as session:
            return change_dataset_index(
                session,
                self.dataset_id,
                action,
                embedding_provider=provider,
                embedding_model=model,
            )

    def to_small(self) -> UUID:
        return self.change("update", "small", "32")

    def next_message(self) -> tuple[str, list[Any]] | None:
        row = self.one(
            "DELETE FROM outbox WHERE id = (SELECT id FROM outbox ORDER BY sequence LIMIT 1) "
            "RETURNING task, args"
        )
        return None if row is None else (row.task.rpartition(".")[2], row.args)

    def deliver(self, task: str, args: list[Any]) -> None:
        self.delivered.append((task, args))
        if task == "deal_dataset_vector_index_task":
            change_index(UUID(args[0]), args[1], UUID(args[2]) if args[2:] else None, self.needs)
        elif task == "build_dataset_index_task":
            build_documents(UUID(args[1]), [UUID(one) for one in args[2]], self.needs)
        elif task == "clean_dataset_index_task":
            clean_index(UUID(args[0]), self.needs)
        else:
            raise AssertionError(task)

    def drain(self, times: int = 1) -> None:
        """Deliver every message, each so many times, until there is none."""
        while (message := self.next_message()) is not None:
            for _ in range(times):
                self.deliver(*message)
        self.store.collect()

    def one(self, statement: str, **values: object) -> Any:
        with self.needs.sessions.begin() as session:
            result = session.execute(text(statement), values)
            return result.one_or_none() if result.returns_rows else None

    def dataset(self) -> Any:
        return self.one("SELECT * FROM datasets WHERE id = :id", id=self.dataset_id)

    def build(self, build_id: UUID) -> Any:
        return self.one("SELECT * FROM dataset_index_builds WHERE id = :id", id=build_id)

    def parts(self, build_id: UUID) -> dict[UUID, tuple[str, int | None]]:
        with self.needs.sessions() as session:
            rows = session.execute(
                text("SELECT * FROM index_build_documents WHERE build_id = :id"), {"id": build_id}
            )
            return {row.document_id: (row.status, row.version) for row in rows}

    def find(self, question: str, options: SearchOptions = BY_VECTOR) -> list[FoundPassage]:
        return search(self.dataset_id, question, self.retrieval, options)

    def first(self, question: str) -> str:
        return self.find(question)[0].document_name.removesuffix(".txt")

    def count(self, sql: str) -> int:
        return self.one(f"SELECT count(*) AS number FROM {sql}").number

    def stored(self) -> dict[int, int]:
        """Vectors that are physically there, by dimension."""
        if isinstance(self.store, QdrantVectorStore):
            client = self.store._client
            names = [one.name for one in client.get_collections().collections]
            found = {int(name.rpartition("_")[2]): client.count(name).count for name in names}
            return {dimension: number for dimension, number in found.items() if number}
        with self.needs.sessions() as session:
            rows = session.execute(
                text("SELECT vector_dims(embedding), count(*) FROM segment_vectors GROUP BY 1")
            )
            return {row[0]: row[1] for row in rows}


def make_place(
    dataset_id: UUID, session: Session, submit: Submit, store: VectorStore
) -> IndexPlace:
    def embedders(provider: str, model: str) -> Embedder:
        if provider == "small":
            return SmallEmbedder(place.before)
        return embedder(provider, model)

    session.rollback()
    place = IndexPlace(
        dataset_id,
        session,
        submit,
        store,
        replace(index_needs(), vectors=VectorStores(store), embedders=embedders, batch_segments=2),
        replace(
            indexing_needs(), vectors=VectorStores(store), embedders=embedders, batch_segments=2
        ),
        replace(retrieval_needs(), vectors=VectorStores(store), embedders=embedders),
    )
    return place


@pytest.fixture
def pgplace(app: Flask, dataset_id: UUID, session: Session, submit: Submit) -> IndexPlace:
    return make_place(dataset_id, session, submit, index_needs().vectors.at(None))


@pytest.fixture(params=["pgvector", "qdrant"])
def place(
    request: pytest.FixtureRequest,
    app: Flask,
    dataset_id: UUID,
    session: Session,
    submit: Submit,
) -> Iterator[IndexPlace]:
    if request.param == "pgvector":
        yield make_place(dataset_id, session, submit, index_needs().vectors.at(None))
        return
    client = QdrantClient(":memory:")
    store = QdrantVectorStore(client, sessionmaker(db.engine), is_local=True)
    yield make_place(dataset_id, session, submit, store)
    client.close()
