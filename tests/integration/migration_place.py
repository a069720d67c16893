"""A dataset, two vector stores it can be in, and the messages of its migrations."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from qdrant_client import QdrantClient
from sqlalchemy.orm import Session, sessionmaker

from shared.models import db
from shared.submitting.embedding_models import PROVIDERS
from shared.submitting.vector_migration import (
    Destination,
    Migration,
    MigrationProgress,
    migrate_dataset_vectors,
    migration_progress,
)
from tests.fixtures.application import Submit
from tests.integration.index_place import IndexPlace, make_place
from worker.providers.embedder import Embedder
from worker.stores.pgvector import PgVectorStore
from worker.stores.qdrant import QdrantVectorStore
from worker.stores.vector_stores import VectorStores

TO_QDRANT = Destination("pgvector", store="qdrant")
TO_PGVECTOR = Destination("pgvector", store="pgvector")
TO_SMALL = Destination("pgvector", store="qdrant", provider="small", model="32")

TEXTS = {
    "lamp": "The lighthouse lamp turns once in twelve seconds. " * 60,
    "horn": "The fog horn sounds twice a minute in thick weather. " * 60,
    "bread": "The baker bakes rye bread before the sun is up. " * 60,
}
QUESTIONS = {"lamp": "lighthouse lamp", "horn": "fog horn", "bread": "rye bread"}


class Death(BaseException):
    """A process that ends here runs nothing more."""


class MigrationPlace:
    """The services on both stores.

    Attributes:
        embedded: texts that a model was asked for since the documents were indexed.
    """

    def __init__(self, place: IndexPlace, client: QdrantClient) -> None:
        self.place, self.client = place, client
        self.pgvector = PgVectorStore()
        self.qdrant = QdrantVectorStore(client, sessionmaker(db.engine), is_local=True)
        self.embedded: list[str] = []
        self.build_id: UUID | None = None
        self.connect(VectorStores(self.pgvector, self.qdrant))

    def connect(self, vectors: VectorStores) -> None:
        """Let every service use these stores."""
        place, given = self.place, self.place.needs.embedders

        def embedders(provider: str, model: str) -> Embedder:
            return Counting(given(provider, model), self.embedded)

        place.store = vectors
        place.needs = replace(place.needs, vectors=vectors, embedders=embedders)
        place.indexing = replace(place.indexing, vectors=vectors)
        place.retrieval = replace(place.retrieval, vectors=vectors)

    def migrate(self, destination: Destination = TO_QDRANT, **options: Any) -> Migration:
        with self.place.needs.sessions.begin() as session:
            return migrate_dataset_vectors(session, self.place.dataset_id, destination, **options)

    def progress(self, migration: Migration) -> MigrationProgress:
        assert migration.build_id is not None
        with self.place.needs.sessions() as session:
            (progress,) = migration_progress(session, [migration.build_id])
        return progress

    def in_pgvector(self) -> int:
        return self.place.count("segment_vectors")

    def in_qdrant(self) -> int:
        names = [one.name for one in self.client.get_collections().collections]
        return sum(self.client.count(name).count for name in names)

    def segments(self) -> int:
        return self.place.count("document_segments")

    def first_of_each(self) -> dict[str, tuple[str, float]]:
        """What each question finds first, and with which cosine."""
        found = {name: self.place.find(asked)[0] for name, asked in QUESTIONS.items()}
        return {
            name: (one.document_name.removesuffix(".txt"), round(one.score, 4))
            for name, one in found.items()
        }

    def require_in(self, store: str) -> None:
        """The dataset is there, whole, and nowhere else."""
        self.place.drain()
        dataset, segments = self.place.dataset(), self.segments()
        assert dataset.vector_store == store
        wanted = {"pgvector": (segments, 0), "qdrant": (0, segments)}[store]
        assert (self.in_pgvector(), self.in_qdrant()) == wanted
        assert {name: one for name, (one, _) in self.first_of_each().items()} == {
            name: name for name in QUESTIONS
        }


class Counting:
    """Another embedder, whose texts are counted."""

    def __init__(self, real: Embedder, embedded: list[str]) -> None:
        self._real, self._embedded = real, embedded

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def embed(self, texts: Any) -> Any:
        self._embedded.extend(texts)
        return self._real.embed(texts)


@pytest.fixture
def moving(
    app: Flask,
    dataset_id: UUID,
    session: Session,
    submit: Submit,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[MigrationPlace]:
    """Three documents in pgvector, and Qdrant beside it."""
    monkeypatch.setitem(PROVIDERS, "small", None)
    client = QdrantClient(":memory:")
    place = make_place(dataset_id, session, submit, PgVectorStore())
    made = MigrationPlace(place, client)
    place.add(**TEXTS)
    made.embedded.clear()
    yield made
    client.close()
