"""What every vector store keeps to: one suite, run by each.

Qdrant runs in its local mode; against a server too, when ``RAG_WORKER_TEST_QDRANT_URL``
names one (its collections that begin with ``test_`` are the suite's).
"""

import os
from collections.abc import Iterator
from uuid import UUID, uuid4

import numpy as np
import pytest
from flask import Flask
from psycopg2.extensions import set_wait_callback
from psycopg2.extras import wait_select
from qdrant_client import QdrantClient
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from shared.models import db
from shared.submitting.dataset import ensure_dataset
from tests.contracts.shelf import Shelf, unit
from tests.fixtures.mysql_server import runs_on_mysql
from worker.stores.pgvector import PgVectorStore
from worker.stores.pgvector_indexes import BuildLimits, build_index
from worker.stores.qdrant import QdrantVectorStore
from worker.stores.vectors import VectorBatch

EAST, NORTH, UP = unit(1, 0, 0), unit(0, 1, 0), unit(0, 0, 1)
SERVER = "RAG_WORKER_TEST_QDRANT_URL"


def near(vector: np.ndarray, step: int) -> np.ndarray:
    """A vector of its own, a bit further off with every step."""
    return unit(*(vector + np.array([0.01, 0.02, 0.03], np.float32) * step))


@pytest.fixture(
    params=["pgvector", "pgvector-gevent", "pgvector-indexed", "qdrant-local", "qdrant-server"]
)
def shelf(request: pytest.FixtureRequest, app: Flask, dataset_id: UUID) -> Iterator[Shelf]:
    sessions = sessionmaker(db.engine, expire_on_commit=False)
    if request.param.startswith("pgvector"):
        if runs_on_mysql():
            pytest.skip("pgvector is PostgreSQL's")
        # With a wait callback, whichever it is, psycopg2 refuses COPY and we have our own.
        set_wait_callback(wait_select if request.param == "pgvector-gevent" else None)

        def in_table() -> int:
            with sessions() as session:
                return session.scalar(text("SELECT count(*) FROM segment_vectors")) or 0

        if request.param == "pgvector-indexed":
            autocommit = db.engine.execution_options(isolation_level="AUTOCOMMIT")
            with autocommit.connect() as connection:
                build_index(connection, dataset_id, 0, 3, BuildLimits(1, 32))
        yield Shelf(PgVectorStore(), sessions, dataset_id, in_table)
        set_wait_callback(None)
        return
    url = os.environ.get(SERVER)
    is_local = request.param == "qdrant-local"
    if not is_local and not url:
        pytest.skip(f"{SERVER} names no Qdrant server")
    client = QdrantClient(":memory:") if is_local else QdrantClient(url)
    prefix = f"test_{uuid4().hex}"

    def names() -> list[str]:
        found = client.get_collections().collections
        return [one.name for one in found if one.name.startswith(prefix)]

    store = QdrantVectorStore(client, sessions, prefix, is_local=is_local)
    yield Shelf(store, sessions, dataset_id, lambda: sum(client.count(n).count for n in names()))
    for name in names():
        client.delete_collection(name)
    client.close()


def expire_sweeps(shelf: Shelf) -> None:
    for table in ("vector_writes", "vector_points"):
        shelf.change(
            f"UPDATE {table} SET swept_at = now() - interval '1 day' WHERE swept_at IS NOT NULL"
        )


def points(shelf: Shelf) -> int:
    with shelf.sessions() as session:
        return session.scalar(text("SELECT count(*) FROM vector_points")) or 0


def writes(shelf: Shelf) -> int:
    with shelf.sessions() as session:
        return session.scalar(text("SELECT count(*) FROM vector_writes")) or 0


def test_the_nearest_come_first_with_their_cosine(shelf: Shelf) -> None:
    document = shelf.document()
    east, north, between = shelf.put(document, EAST, NORTH, unit(1, 1, 0))
    query = shelf.query(EAST, limit=2)

    found = shelf.check(query, shelf.store.ask(query))

    assert [match.id for match in found.matches] == [east, between]
    assert [match.score for match in found.matches] == pytest.approx([1, 2**-0.5], abs=1e-5)
    assert shelf.search(NORTH, limit=1) == [north]


def test_an_empty_index_finds_nothing(shelf: Shelf) -> None:
    assert shelf.search(EAST) == []
    assert shelf.fetch(uuid4(), 1, uuid4()) == {}


def test_writing_a_vector_again_replaces_it(shelf: Shelf) -> None:
    document, segment = shelf.document(), uuid4()
    place = shelf.claim(document)
    shelf.write(place, [segment], EAST)
    shelf.write(place, [segment], NORTH)
    shelf.switch(place)

    assert shelf.stored() == 1
    assert shelf.fetch(document, 1, segment)[segment] == pytest.approx(NORTH)


def test_a_version_is_seen_with_its_switch_and_not_before(shelf: Shelf) -> None:
    document = shelf.document()
    (old,) = shelf.put(document, EAST)
    place, new = shelf.claim(document, version=2), [uuid4(), uuid4()]
    shelf.write(place, new[:1], EAST)
    shelf.write(place, new[1:], near(EAST, 1))
    assert shelf.search(EAST) == [old]

    shelf.switch(place)

    assert shelf.search(EAST) == new
    assert shelf.fetch(document, 2, *new, old).keys() == set(new)
    shelf.store.collect()
    assert shelf.stored() == 2


def test_a_switch_between_question_and_check_hides_nothing(shelf: Shelf) -> None:
    """Other documents fill the answer meanwhile: the one that switched is not lost among them."""
    document = shelf.document()
    for step in range(1, 4):
        shelf.put(shelf.document(), near(EAST, step))
    shelf.put(document, EAST)
    query = shelf.query(EAST, limit=2)
    asked = shelf.store.ask(query)
    (new,) = shelf.put(document, EAST, version=2)

    found = shelf.check(query, asked)
    if found.again is not None:
        found = shelf.check(query, shelf.store.ask(query, found.again))

    assert found.matches[0].id == new
    assert len(found.matches) == 2


def test_what_does_not_count_takes_no_place_of_what_does(shelf: Shelf) -> None:
    """A hundred nearer vectors of hidden, old and unfinished documents; two that count."""
    hidden, old, unfinished = (shelf.document() for _ in range(3))
    shelf.put(hidden, *[near(EAST, 0)] * 60)
    shelf.change("UPDATE documents SET enabled = false WHERE id = :id", id=hidden)
    shelf.put(old, *[near(EAST, 0)] * 60)
    shelf.put(old, UP, version=2)
    shelf.write(shelf.claim(unfinished), [uuid4() for _ in range(60)], *[near(EAST, 0)] * 60)
    wanted = shelf.put(shelf.document(), near(EAST, 5), near(EAST, 6))

    assert shelf.search(EAST, limit=2) == wanted


@pytest.mark.parametrize("column", ["enabled = false", "archived = true"])
def test_a_hidden_document_is_not_found_until_it_is_shown_again(shelf: Shelf, column: str) -> None:
    document = shelf.document()
    ids = shelf.put(document, EAST)

    shelf.change(f"UPDATE documents SET {column} WHERE id = :id", id=document)
    assert shelf.search(EAST) == []
    shelf.store.collect()
    shelf.change(
        "UPDATE documents SET enabled = true, archived = false WHERE id = :id", id=document
    )
    assert shelf.search(EAST) == ids


def test_datasets_and_generations_do_not_mix(shelf: Shelf, session: Session) -> None:
    tenant = session.scalar(text("SELECT tenant_id FROM datasets"))
    other = ensure_dataset(session, tenant, "others")
    session.commit()
    mine, foreign = shelf.document(), shelf.document(other)
    (first,) = shelf.put(mine, EAST)
    place = shelf.claim(foreign, dataset_id=other)
    shelf.write(place, [uuid4()], EAST)
    shelf.switch(place)

    # Of the next generation the same segment has a vector of another dimension.
    place = shelf.claim(mine, generation=1)
    shelf.write(place, [first], unit(1, 0, 0, 0, 0))
    shelf.switch(place)

    assert shelf.search(EAST) == [first]
    assert shelf.search(unit(1, 0, 0, 0, 0), generation=1) == [first]
    assert len(shelf.fetch(mine, 1, first, generation=1)[first]) == 5
    assert shelf.stored() == 3


def test_a_generation_is_given_up_and_the_other_stays(shelf: Shelf) -> None:
    documents = [shelf.document() for _ in range(3)]
    for document in documents:
        shelf.put(document, EAST, NORTH)
        shelf.put(document, EAST, NORTH, generation=1)

    deleted = -1
    while deleted:
        with shelf.sessions.begin() as session:
            deleted = shelf.store.delete_other_generations(session, documents, [1], 4)
        assert deleted <= 4
    shelf.store.collect()

    assert shelf.search(EAST) == []
    assert len(shelf.search(EAST, limit=10, generation=1)) == 6
    assert shelf.stored() == 6


def test_a_worker_that_lost_its_lease_spoils_nothing(shelf: Shelf) -> None:
    document, segment = shelf.document(), uuid4()
    stale = shelf.claim(document)
    shelf.write(stale, [segment], NORTH)
    place = shelf.claim(document)
    with shelf.sessions.begin() as session:
        shelf.store.delete_other_versions(session, document, None)
    shelf.write(place, [segment], EAST)
    # Its request was under way when it lost the lease; in the database the token refuses it.
    shelf.store.send(VectorBatch(stale, [segment, uuid4()], np.stack([NORTH, NORTH])))
    shelf.switch(place)

    assert shelf.search(NORTH) == [segment]
    assert shelf.fetch(document, 1, segment)[segment] == pytest.approx(EAST)
    shelf.store.collect()
    assert shelf.search(EAST) == [segment]
    assert shelf.stored() == 1


def test_what_is_being_written_is_not_collected(shelf: Shelf) -> None:
    document, segment = shelf.document(), uuid4()
    place = shelf.claim(document)
    shelf.write(place, [segment], EAST)
    shelf.change("UPDATE documents SET lease_expires_at = now() - interval '1 hour'")

    shelf.store.collect()

    shelf.switch(place)  # frozen for long, and nobody took over: its token is still the newest
    assert shelf.search(EAST) == [segment]


def test_a_deleted_document_leaves_nothing(shelf: Shelf) -> None:
    kept = shelf.put(shelf.document(), EAST)
    document = shelf.document()
    shelf.put(document, EAST, NORTH)
    late = shelf.claim(document, version=2)
    shelf.write(late, [uuid4()], EAST)

    shelf.change_table("DELETE FROM segment_vectors WHERE document_id = :id", id=document)
    shelf.change("DELETE FROM documents WHERE id = :id", id=document)
    assert shelf.search(EAST) == kept
    shelf.store.send(VectorBatch(late, [uuid4()], EAST[None]))  # it does not know yet
    shelf.store.collect()

    assert shelf.search(EAST) == kept
    assert shelf.stored() == 1


def test_collecting_ends_with_no_row_and_no_vector(shelf: Shelf) -> None:
    for _ in range(3):
        document = shelf.document()
        shelf.put(document, EAST)
        shelf.put(document, NORTH, version=2)
    shelf.change_table("DELETE FROM segment_vectors")
    shelf.change("DELETE FROM documents")

    shelf.store.collect()
    expire_sweeps(shelf)
    shelf.store.collect()

    assert (shelf.stored(), writes(shelf)) == (0, 0)
    assert shelf.store.collect() == 0


def test_a_change_of_some_segments_is_seen_with_their_rows_and_not_before(shelf: Shelf) -> None:
    document = shelf.document()
    first, second = shelf.put(document, EAST, NORTH)
    made = uuid4()
    batch = shelf.part(document, [first, made], UP, near(UP, 1))
    assert shelf.search(EAST, limit=1) == [first]
    assert shelf.search(UP, limit=3) != [first, made, second]
    assert shelf.fetch(document, 1, first)[first] == pytest.approx(EAST)

    shelf.change_segments(batch)

    assert shelf.search(UP, limit=3) == [first, made, second]
    assert len(shelf.search(EAST, limit=9)) == 3, "each once"
    fetched = shelf.fetch(document, 1, first, second, made)
    assert fetched[first] == pytest.approx(UP)
    assert fetched[second] == pytest.approx(NORTH)
    assert len(fetched) == 3
    shelf.store.collect()
    assert shelf.stored() == 3


def test_a_change_between_question_and_check_hides_nothing(shelf: Shelf) -> None:
    document = shelf.document()
    (segment,) = shelf.put(document, EAST)
    for step in range(1, 40):
        shelf.put(shelf.document(), near(EAST, step))
    query = shelf.query(EAST, limit=2)
    asked = shelf.store.ask(query)
    shelf.change_segments(shelf.part(document, [segment], unit(1, 0.001, 0)))

    found = shelf.check(query, asked)
    while found.again is not None:
        found = shelf.check(query, shelf.store.ask(query, found.again))

    assert found.matches[0].id == segment
    assert len(found.matches) == 2


def test_changed_again_and_again_a_segment_has_one_vector(shelf: Shelf) -> None:
    document = shelf.document()
    (segment,) = shelf.put(document, EAST)
    for vector in (NORTH, UP, EAST, NORTH):
        shelf.change_segments(shelf.part(document, [segment], vector))
        assert shelf.search(vector, limit=9) == [segment]
        assert shelf.fetch(document, 1, segment)[segment] == pytest.approx(vector)
    for _ in range(2):
        shelf.store.collect()
        expire_sweeps(shelf)
    assert shelf.stored() == 1
    assert shelf.search(NORTH, limit=9) == [segment]


def test_a_deleted_segment_leaves_no_vector_while_its_version_goes_on(shelf: Shelf) -> None:
    document = shelf.document()
    plain, changed, kept = shelf.put(document, EAST, NORTH, UP)
    made = uuid4()
    shelf.change_segments(shelf.part(document, [changed, made], EAST, EAST))
    late = shelf.part(document, [changed], UP)

    shelf.delete_segments(document, plain, changed, made)
    assert shelf.search(EAST, limit=9) == [kept]
    shelf.store.send(late)  # it does not know yet
    shelf.change("UPDATE documents SET lease_expires_at = NULL")
    shelf.store.collect()

    assert shelf.stored() == 1
    assert shelf.search(EAST, limit=9) == [kept]
    expire_sweeps(shelf)
    shelf.store.collect()
    assert points(shelf) == 0


def test_a_change_that_nobody_finished_is_collected_and_the_old_vector_stays(
    shelf: Shelf,
) -> None:
    document = shelf.document()
    (segment,) = shelf.put(document, EAST)
    shelf.part(document, [segment, uuid4()], UP, UP)
    shelf.store.collect()
    batch = shelf.part(document, [segment], NORTH)  # the next attempt
    shelf.change_segments(batch)

    shelf.store.collect()
    assert shelf.stored() == 1
    assert shelf.search(UP, limit=9) == [segment]
    assert shelf.fetch(document, 1, segment)[segment] == pytest.approx(NORTH)


def test_an_index_made_anew_after_a_change_counts_once(shelf: Shelf) -> None:
    """A part of it was done before the segment was changed, and is done again."""
    document = shelf.document()
    (segment,) = shelf.put(document, EAST)
    for vector in (NORTH, UP):
        place = shelf.claim(document, generation=1)
        shelf.write(place, [segment], vector)
        with shelf.sessions.begin() as session:
            shelf.store.activate(session, place)

    assert shelf.search(UP, limit=9, generation=1) == [segment]
    assert shelf.search(EAST, limit=9) == [segment]
    assert shelf.fetch(document, 1, segment, generation=1)[segment] == pytest.approx(UP)
    shelf.change("UPDATE documents SET lease_expires_at = NULL")
    shelf.store.collect()
    assert shelf.stored() == 2


def test_what_has_no_vector_is_named(shelf: Shelf) -> None:
    document_id, never = shelf.document(), uuid4()
    ids = shelf.put(document_id, EAST, NORTH)

    with shelf.sessions() as session:
        assert shelf.store.missing(session, document_id, 1, 0, [*ids, never]) == {never}
    with shelf.sessions() as session:
        assert shelf.store.missing(session, document_id, 1, 1, ids) == set(ids), "another index"


def test_what_no_row_stands_for_is_found_counted_and_deleted(shelf: Shelf) -> None:
    kept, lost = shelf.document(), shelf.document()
    shelf.put(kept, EAST)
    shelf.put(lost, NORTH, UP)

    def orphans(*, deletes: bool) -> int:
        number, after = 0, None
        while True:
            with shelf.sessions.begin() as session:
                found = shelf.store.orphans(session, after, deletes=deletes)
            number, after = number + found.number, found.next_after
            if after is None:
                return number

    assert orphans(deletes=True) == 0
    # As a restored backup leaves it: the vectors are there, and nothing that knows of them.
    shelf.change("DELETE FROM vector_writes WHERE document_id = :id", id=lost)
    shelf.change_table(
        "UPDATE segment_vectors SET document_id = gen_random_uuid() WHERE document_id = :id",
        id=lost,
    )

    assert (orphans(deletes=False), shelf.stored()) == (2, 3)
    assert (orphans(deletes=True), shelf.stored()) == (2, 1)
    assert orphans(deletes=True) == 0
