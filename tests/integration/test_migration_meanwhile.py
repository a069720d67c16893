"""What is written, changed and deleted while a dataset moves; deaths between any two commits."""

import threading
from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

from shared.models import db
from shared.submitting.availability import disable_documents
from shared.submitting.removing import delete_dataset, delete_documents
from shared.submitting.segment_switches import delete_segments, disable_segments
from shared.submitting.segments import create_segment, update_segment
from tests.integration.migration_place import (
    QUESTIONS,
    TO_PGVECTOR,
    TO_QDRANT,
    Death,
    MigrationPlace,
    moving,
)
from worker.services.dataset import index_switching
from worker.services.dataset.index_changing import sweep_builds
from worker.services.dataset.index_cleaning import clean_index
from worker.services.dataset.removal import RemovalNeeds, clean_dataset, clean_documents
from worker.services.dataset.search_options import SearchOptions
from worker.services.dataset.segment_edits import index_segment
from worker.stores.qdrant import QdrantVectorStore
from worker.stores.vector_stores import VectorStores
from worker.stores.vectors import VectorBatch
from worker.wiring import removal_needs

__all__ = ["moving"]

TIDE = "The harbour gate opens an hour before high tide. "


class Interrupted(QdrantVectorStore):
    """Something happens once, between a batch in the store and its rows."""

    meanwhile: Callable[[], None] | None = None

    def send(self, batch: VectorBatch) -> None:
        super().send(batch)
        if self.meanwhile is not None:
            happen, self.meanwhile = self.meanwhile, None
            happen()


def document(moving: MigrationPlace, name: str) -> UUID:
    return moving.place.one("SELECT id FROM documents WHERE name = :name", name=f"{name}.txt").id


def segment(moving: MigrationPlace, name: str) -> UUID:
    query = "SELECT id FROM document_segments WHERE document_id = :id ORDER BY position LIMIT 1"
    return moving.place.one(query, id=document(moving, name)).id


def in_transaction(moving: MigrationPlace, change: Callable[[Session], object]) -> object:
    with moving.place.needs.sessions.begin() as session:
        made = change(session)
    # Its messages are ours: the services are called below.
    moving.place.one("DELETE FROM outbox WHERE task NOT LIKE '%dataset_index%'")
    return made


def again(moving: MigrationPlace) -> None:
    moving.place.add(lamp=TIDE * 60)


def another(moving: MigrationPlace) -> None:
    moving.place.add(tide=TIDE * 60)


def delete(moving: MigrationPlace) -> None:
    gone = document(moving, "lamp")
    in_transaction(moving, lambda session: delete_documents(session, [gone]))
    clean_documents(moving.place.dataset_id, [gone], removal_of(moving))


def disable(moving: MigrationPlace) -> None:
    gone = document(moving, "lamp")
    in_transaction(moving, lambda session: disable_documents(session, [gone]))


def edit(moving: MigrationPlace) -> None:
    one = segment(moving, "lamp")
    in_transaction(moving, lambda session: update_segment(session, one, TIDE))
    index_segment(one, moving.place.indexing)


def create(moving: MigrationPlace) -> None:
    owner = document(moving, "lamp")
    made = in_transaction(moving, lambda session: create_segment(session, owner, TIDE))
    index_segment(made, moving.place.indexing)


def delete_one(moving: MigrationPlace) -> None:
    one = segment(moving, "lamp")
    in_transaction(moving, lambda session: delete_segments(session, [one]))


def disable_one(moving: MigrationPlace) -> None:
    one = segment(moving, "lamp")
    in_transaction(moving, lambda session: disable_segments(session, [one]))


CHANGES = {
    "indexed again": again,
    "another one indexed": another,
    "deleted": delete,
    "disabled": disable,
    "segment edited": edit,
    "segment made": create,
    "segment deleted": delete_one,
    "segment disabled": disable_one,
}


def require_all_there(moving: MigrationPlace) -> None:
    """Every segment has one vector, in Qdrant, and search sees the same as the rows say."""
    moving.place.drain()
    moving.place.one("UPDATE vector_writes SET swept_at = now() - interval '1 day'")
    moving.place.drain()
    assert moving.place.dataset().vector_store == "qdrant"
    assert (moving.in_pgvector(), moving.in_qdrant()) == (0, moving.segments())
    enabled = moving.place.one(
        "SELECT array_agg(s.id) AS ids FROM document_segments AS s JOIN documents AS d"
        " ON d.id = s.document_id AND d.active_version = s.version WHERE s.enabled AND d.enabled"
    ).ids
    found = {
        one.segment_id for asked in (*QUESTIONS.values(), "gate") for one in find(moving, asked)
    }
    assert found == set(enabled)


def find(moving: MigrationPlace, question: str) -> list:
    return moving.place.find(question, SearchOptions("vector", top_k=100))


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("when", ["a batch is sent", "all is verified"])
def test_what_is_changed_meanwhile_is_neither_lost_nor_doubled(
    what: str, when: str, moving: MigrationPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []

    def meanwhile() -> None:
        if not happened:
            happened.append(what)
            CHANGES[what](moving)

    if when == "a batch is sent":
        store = Interrupted(moving.client, moving.qdrant._sessions, is_local=True)
        store.meanwhile = meanwhile
        moving.connect(VectorStores(moving.pgvector, store))
    else:
        verify = index_switching.verify

        def verified(*arguments: object) -> None:
            verify(*arguments)
            meanwhile()

        monkeypatch.setattr(index_switching, "verify", verified)
    moving.migrate(batch_segments=1, samples=1000)

    require_all_there(moving)

    assert happened == [what]
    assert moving.embedded == [] or what not in {"deleted", "disabled", "segment disabled"}


@pytest.mark.parametrize("when", ["a batch is sent", "all is verified"])
def test_a_dataset_deleted_in_the_middle_leaves_nothing(
    when: str, moving: MigrationPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset_id, needs = moving.place.dataset_id, removal_of(moving)

    def remove() -> None:
        with needs.sessions.begin() as session:
            delete_dataset(session, dataset_id)
        clean_dataset(dataset_id, needs)
        moving.place.one("DELETE FROM outbox WHERE task NOT LIKE '%dataset_index%'")

    if when == "a batch is sent":
        store = Interrupted(moving.client, moving.qdrant._sessions, is_local=True)
        store.meanwhile = remove
        moving.connect(VectorStores(moving.pgvector, store))
    else:
        verify = index_switching.verify

        def verified(*arguments: object) -> None:
            verify(*arguments)
            remove()

        monkeypatch.setattr(index_switching, "verify", verified)
    moving.migrate()
    while (message := moving.place.next_message()) is not None:
        moving.place.deliver(*message)
    moving.place.store.collect()

    assert (moving.in_pgvector(), moving.in_qdrant()) == (0, 0)
    assert moving.place.count("dataset_index_builds") == 0


def removal_of(moving: MigrationPlace) -> RemovalNeeds:
    return replace(removal_needs(), vectors=VectorStores(moving.pgvector, moving.qdrant))


def deliver_all(moving: MigrationPlace, dies_at: int) -> bool:
    """Deliver what there is; the process dies before its so-manieth commit. Whether it did."""
    commits = 0

    def commit(_: object) -> None:
        nonlocal commits
        if threading.current_thread() is threading.main_thread():
            commits += 1
            if commits == dies_at:
                raise Death

    event.listen(db.engine, "commit", commit)
    try:
        moving.place.drain()
    except Death:
        return True
    finally:
        event.remove(db.engine, "commit", commit)
    return False


def come_back(moving: MigrationPlace) -> None:
    """The leases of the dead run out, and the sweeper comes by."""
    for change in (
        "UPDATE index_build_documents SET lease_expires_at = now() WHERE lease_owner IS NOT NULL",
        "UPDATE index_build_documents SET queued_at = now() - interval '1 hour'",
        "UPDATE dataset_index_builds SET created_at = now() - interval '1 hour'",
    ):
        moving.place.one(change)
    sweep_builds(moving.place.needs, grace_seconds=60)


def test_a_death_before_any_commit_is_gone_on_after(moving: MigrationPlace) -> None:
    before = moving.first_of_each()
    dies_at, has_died = 1, True
    while has_died:
        moving.migrate(TO_QDRANT, batch_segments=1000, samples=5)
        has_died = deliver_all(moving, dies_at)
        assert moving.first_of_each() == before, dies_at
        if moving.place.dataset().vector_store != "qdrant":
            come_back(moving)
            moving.migrate(TO_QDRANT, batch_segments=1000, samples=5)
        moving.place.drain()
        # The message of the clean-up may have died with its process: the next one cleans up.
        clean_index(moving.place.dataset_id, moving.place.needs)
        moving.require_in("qdrant")
        assert moving.first_of_each() == before, dies_at
        moving.migrate(TO_PGVECTOR, samples=0)
        moving.require_in("pgvector")
        dies_at += 1
    assert dies_at > 10
    assert moving.embedded == []
