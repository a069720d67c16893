"""Large datasets get an index over their vectors; search finds the same by it, and all there is."""

from collections.abc import Iterator
from uuid import UUID, uuid4

import numpy as np
import pytest
from flask import Flask
from sqlalchemy import Engine, event, text
from sqlalchemy.orm import Session, sessionmaker

from shared.contract import INDEX_VECTORS
from shared.models import db
from shared.submitting.dataset import ensure_dataset
from tests.contracts.shelf import Shelf
from worker.stores.pgvector import PgVectorStore
from worker.stores.pgvector_indexes import (
    BuildLimits,
    index_name,
    keep_indexes,
    usable_dimension,
)
from worker.stores.vectors import VectorQuery
from worker.wiring.maintenance import maintain

LIMITS = BuildLimits(least_segments=300, memory_megabytes=32)
DIMENSION = 8
SEGMENTS = 40


@pytest.fixture
def vector_variables() -> dict[str, str]:
    """What the schedule's run goes by: as ``LIMITS``."""
    return {"VECTOR_INDEX_LEAST_SEGMENTS": "300", "VECTOR_INDEX_MEGABYTES": "32"}


@pytest.fixture
def shelf(app: Flask, dataset_id: UUID) -> Shelf:
    """A dataset of 400 vectors in 10 documents."""
    made = Shelf(PgVectorStore(), sessionmaker(db.engine), dataset_id, lambda: 0)
    fill(made)
    return made


@pytest.fixture
def scans() -> Iterator[list[str]]:
    """A line for each search by an index."""
    seen: list[str] = []

    def note(_c: object, _cursor: object, statement: str, *_: object) -> None:
        if "hnsw.ef_search" in statement:
            seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    yield seen
    event.remove(Engine, "before_cursor_execute", note)


def fill(shelf: Shelf, dataset_id: UUID | None = None, generation: int = 0) -> list[UUID]:
    choose, documents = np.random.default_rng(11), []
    for _ in range(10):
        document = shelf.document(dataset_id)
        place = shelf.claim(document, 1, generation, dataset_id)
        made = choose.standard_normal((SEGMENTS, DIMENSION)).astype(np.float32)
        vectors = made / np.linalg.norm(made, axis=1, keepdims=True)
        shelf.write(place, [uuid4() for _ in vectors], *vectors)
        shelf.switch(place)
        documents.append(document)
    shelf.change("UPDATE documents SET total_segments = :number", number=SEGMENTS)
    return documents


def keep(limits: BuildLimits = LIMITS) -> list[str]:
    return [words.split()[0] for words in keep_indexes(db.engine, limits)]


def dimension(shelf: Shelf, dataset_id: UUID | None = None, generation: int = 0) -> int | None:
    with shelf.sessions() as session:
        return usable_dimension(session, dataset_id or shelf.dataset_id, generation)


def question(seed: int = 3) -> np.ndarray:
    made = np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32)
    return made / np.linalg.norm(made)


def test_a_large_dataset_gets_one_index_and_finds_by_it_what_it_found_without(
    shelf: Shelf, scans: list[str]
) -> None:
    exact = [shelf.search(question(seed), limit=10) for seed in range(20)]
    assert not scans

    assert (keep(), keep()) == (["built"], [])

    assert dimension(shelf) == DIMENSION
    found = [shelf.search(question(seed), limit=10) for seed in range(20)]
    assert len(scans) == 20
    pairs = zip(exact, found, strict=True)
    assert sum(len(set(one) & set(other)) for one, other in pairs) >= 195
    assert sum(one[0] == other[0] for one, other in zip(exact, found, strict=True)) >= 19


def test_what_is_found_by_an_index_has_its_cosine_and_comes_best_first(shelf: Shelf) -> None:
    keep()
    query = shelf.query(question(), limit=30)
    matches = shelf.check(query, shelf.store.ask(query)).matches

    vectors = {}
    with shelf.sessions() as session:
        for row in session.execute(text("SELECT id, embedding::text AS v FROM segment_vectors")):
            vectors[row.id] = np.array(row.v.strip("[]").split(","), np.float32)
    scores = [match.score for match in matches]
    assert scores == sorted(scores, reverse=True)
    assert scores == pytest.approx([float(vectors[m.id] @ question()) for m in matches], abs=1e-5)


def test_a_small_dataset_is_read_and_one_that_shrank_or_went_loses_its_index(
    shelf: Shelf, session: Session
) -> None:
    tenant = text("SELECT tenant_id FROM datasets WHERE id = :id")
    tenant_id = session.scalar(tenant, {"id": shelf.dataset_id})
    other = ensure_dataset(session, tenant_id, "other")
    session.commit()
    fill(shelf, other)
    shelf.change("UPDATE documents SET total_segments = 10 WHERE dataset_id = :id", id=other)
    assert keep() == ["built"]
    assert dimension(shelf, other) is None

    shelf.change("UPDATE documents SET total_segments = 20")
    assert keep() == [], "half as many may come back"
    shelf.change("UPDATE documents SET total_segments = 9")
    assert keep() == ["dropped"]

    shelf.change("UPDATE documents SET total_segments = 40")
    assert keep() == ["built", "built"]
    shelf.change("UPDATE datasets SET vector_store = 'qdrant' WHERE id = :id", id=other)
    assert keep() == ["dropped"]
    assert keep(BuildLimits(0, 32)) == ["dropped"]
    assert len(shelf.search(question(), limit=10)) == 10


def test_the_index_follows_the_generation_in_use(shelf: Shelf) -> None:
    keep()
    fill(shelf, generation=1)
    shelf.change("UPDATE datasets SET index_generation = 1 WHERE id = :id", id=shelf.dataset_id)
    assert len(shelf.search(question(), limit=10, generation=1)) == 10

    assert sorted(keep()) == ["built", "dropped"]

    assert (dimension(shelf), dimension(shelf, generation=1)) == (None, DIMENSION)
    assert len(shelf.search(question(), limit=10, generation=1)) == 10


def test_what_a_build_left_half_done_is_not_searched_and_built_anew(
    shelf: Shelf, scans: list[str]
) -> None:
    keep()
    # What CREATE INDEX CONCURRENTLY leaves when its backend ends.
    broken = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = to_regclass(:name)"
    shelf.change(broken, name=index_name(shelf.dataset_id, 0))
    assert dimension(shelf) is None
    assert len(shelf.search(question(), limit=10)) == 10
    assert not scans

    assert keep() == ["dropped", "built"]

    assert dimension(shelf) == DIMENSION


def test_hidden_documents_take_no_place_and_all_that_is_left_is_found(
    shelf: Shelf, scans: list[str]
) -> None:
    keep()
    hide = "UPDATE documents SET enabled = false WHERE position > 1"
    shelf.change(hide)

    assert len(shelf.search(question(), limit=SEGMENTS)) == SEGMENTS
    assert len(shelf.search(question(), limit=3 * SEGMENTS)) == SEGMENTS
    assert scans


def test_of_a_few_documents_the_vectors_are_read(shelf: Shelf, scans: list[str]) -> None:
    keep()
    with shelf.sessions() as session:
        documents = session.scalars(text("SELECT id FROM documents ORDER BY id LIMIT 2")).all()
    query = VectorQuery(shelf.dataset_id, 0, question(), 100, documents)

    assert len(shelf.check(query, shelf.store.ask(query)).matches) == 2 * SEGMENTS
    assert not scans


def test_the_schedule_keeps_the_indexes(shelf: Shelf) -> None:
    maintain(INDEX_VECTORS)
    maintain(INDEX_VECTORS)

    assert dimension(shelf) == DIMENSION
    with shelf.sessions() as session:
        run = session.execute(
            text("SELECT total, error FROM scheduled_runs WHERE name = 'index_vectors'")
        ).one()
    assert tuple(run) == (1, None)
