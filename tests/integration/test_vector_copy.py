"""Vectors go in by COPY where they can: the same rows, the same errors, no lost connection kept."""

from collections.abc import Iterator
from dataclasses import replace
from uuid import UUID, uuid4

import numpy as np
import pytest
from flask import Flask
from psycopg2.extensions import set_wait_callback
from psycopg2.extras import wait_select
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from shared.models import db
from tests.contracts.shelf import Shelf
from worker.stores.pgvector import PgVectorStore
from worker.stores.vectors import VectorBatch, VectorPlace

# As text: what is compared is what is stored, to the last bit.
_ROWS = text("""
    SELECT id::text, document_id::text, version, generation, segment_id::text,
           encode(vector_send(embedding), 'hex') FROM segment_vectors ORDER BY id
""")


@pytest.fixture
def shelf(app: Flask, dataset_id: UUID) -> Shelf:
    return Shelf(PgVectorStore(), sessionmaker(db.engine), dataset_id, lambda: 0)


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """The first words of what is executed."""
    seen: list[str] = []

    def note(_c: object, _cursor: object, statement: str, *_: object) -> None:
        seen.append(" ".join(statement.split()[:2]))

    event.listen(Engine, "before_cursor_execute", note)
    yield seen
    event.remove(Engine, "before_cursor_execute", note)


def random_vectors(number: int, dimension: int) -> np.ndarray:
    made = np.random.default_rng(5).standard_normal((number, dimension)).astype(np.float32)
    # What is hard to write in decimals.
    made[0, :3] = (0, np.float32(1e-42), -np.finfo(np.float32).max)[:dimension]
    return made


@pytest.mark.parametrize("generation", [0, 2])
@pytest.mark.parametrize("dimension", [1, 256, 3072])
def test_copy_and_statement_write_the_same_rows(
    shelf: Shelf, statements: list[str], generation: int, dimension: int
) -> None:
    ids, vectors = [uuid4() for _ in range(40)], random_vectors(40, dimension)
    place = VectorPlace(shelf.dataset_id, shelf.document(), 3, generation, uuid4(), 1)
    # A few of a version that serves go by a statement.
    parts = [
        VectorBatch(replace(place, is_whole=False), ids[start : start + 20], vectors[start:][:20])
        for start in (0, 20)
    ]
    written = []
    for callback, batches in (
        (None, [VectorBatch(place, ids, vectors)]),
        (wait_select, [VectorBatch(place, ids, vectors)]),
        (None, parts),
    ):
        set_wait_callback(callback)
        try:
            with shelf.sessions() as session:
                for batch in batches:
                    shelf.store.upsert(session, batch)
                written.append(session.execute(_ROWS).all())
        finally:
            set_wait_callback(None)

    assert len(written[0]) == 40
    assert written[0] == written[1] == written[2]
    assert statements.count("SAVEPOINT copying;") == 2


@pytest.mark.parametrize(
    ("is_whole", "number", "is_copied"), [(True, 1, True), (False, 31, False), (False, 32, True)]
)
def test_a_few_vectors_of_a_version_that_serves_are_not_copied(
    shelf: Shelf, statements: list[str], *, is_whole: bool, number: int, is_copied: bool
) -> None:
    place = VectorPlace(shelf.dataset_id, shelf.document(), 1, 0, uuid4(), 1, is_whole)
    batch = VectorBatch(place, [uuid4() for _ in range(number)], random_vectors(number, 4))
    for _ in range(2):
        with shelf.sessions.begin() as session:
            shelf.store.upsert(session, batch)

    assert ("SAVEPOINT copying;" in statements) is is_copied
    with shelf.sessions() as session:
        assert len(session.execute(_ROWS).all()) == number


def test_a_batch_of_which_a_part_is_there_is_written_whole_with_the_rows_before_it(
    shelf: Shelf,
) -> None:
    document, ids = shelf.document(), [uuid4() for _ in range(40)]
    place = VectorPlace(shelf.dataset_id, document, 1, 0, document, 1)
    old, new = random_vectors(40, 4), random_vectors(40, 4)[::-1]
    with shelf.sessions.begin() as session:
        shelf.store.upsert(session, VectorBatch(place, ids[:1], old[:1]))
    with shelf.sessions.begin() as session:
        session.execute(text("UPDATE documents SET word_count = 5"))
        shelf.store.upsert(session, VectorBatch(place, ids, new))

    found = shelf.fetch(document, 1, *ids)
    assert all(np.array_equal(found[one], vector) for one, vector in zip(ids, new, strict=True))
    with shelf.sessions() as session:
        assert session.scalar(text("SELECT word_count FROM documents")) == 5


def test_vectors_of_a_document_that_is_gone_are_refused(shelf: Shelf) -> None:
    place = VectorPlace(shelf.dataset_id, uuid4(), 1, 0, uuid4(), 1)
    batch = VectorBatch(place, [uuid4() for _ in range(40)], random_vectors(40, 4))

    with pytest.raises(IntegrityError, match="there is no document"), shelf.sessions() as session:
        shelf.store.upsert(session, batch)


def test_a_connection_lost_in_a_copy_is_an_outage_and_the_next_one_works(shelf: Shelf) -> None:
    document, segment = shelf.document(), uuid4()
    place = VectorPlace(shelf.dataset_id, document, 1, 0, document, 1)
    batch = VectorBatch(place, [segment, *(uuid4() for _ in range(39))], random_vectors(40, 4))

    with shelf.sessions() as session:
        _end(session, shelf)
        with pytest.raises(OperationalError):
            shelf.store.upsert(session, batch)
    with shelf.sessions.begin() as session:
        shelf.store.upsert(session, batch)

    assert shelf.fetch(document, 1, segment).keys() == {segment}


def _end(session: Session, shelf: Shelf) -> None:
    mine = session.scalar(text("SELECT pg_backend_pid()"))
    with shelf.sessions() as other:
        other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": mine})
