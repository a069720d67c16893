"""A dataset moves to another vector store, or model, while it is used; and what may go wrong."""

import numpy as np
import pytest
from qdrant_client import models
from sqlalchemy.orm import Session

from shared.errors import IndexChangeInProgress, InvalidRequest, MigrationUnverified, NotFound
from shared.submitting.vector_migration import Destination, migrate_dataset_vectors
from tests.integration.index_place import SMALL
from tests.integration.migration_place import (
    TO_PGVECTOR,
    TO_QDRANT,
    TO_SMALL,
    MigrationPlace,
    moving,
)
from worker.services.dataset.index_switching import finish_build

__all__ = ["moving"]


def test_vectors_are_copied_and_found_as_before(moving: MigrationPlace) -> None:
    before = moving.first_of_each()
    migration = moving.migrate()
    assert (migration.from_store, migration.to_store, migration.is_copied) == (
        "pgvector",
        "qdrant",
        True,
    )

    moving.require_in("qdrant")

    progress = moving.progress(migration)
    assert (progress.status, progress.documents, progress.verified) == ("completed", 3, 3)
    assert progress.vectors == moving.segments()
    assert moving.first_of_each() == before
    assert moving.embedded == []


def test_there_and_back_changes_nothing(moving: MigrationPlace) -> None:
    before = moving.first_of_each()
    moving.migrate()
    moving.require_in("qdrant")
    moving.migrate(TO_PGVECTOR)
    moving.require_in("pgvector")

    assert moving.first_of_each() == before
    assert moving.embedded == []
    assert moving.migrate(TO_PGVECTOR).is_needed is False


def test_another_model_embeds_anew_in_the_other_store(moving: MigrationPlace) -> None:
    migration = moving.migrate(TO_SMALL)
    moving.require_in("qdrant")

    dataset = moving.place.dataset()
    assert (dataset.embedding_model, dataset.embedding_dimension) == ("32", SMALL)
    assert len(moving.embedded) >= moving.segments()
    assert moving.progress(migration).status == "completed"


def test_children_move_in_the_place_of_their_parents(moving: MigrationPlace) -> None:
    moving.place.one("UPDATE datasets SET doc_form = 'hierarchical_model'")
    moving.place.add(tide="The harbour gate opens an hour before high tide. " * 60)
    children = moving.place.count("child_chunks")
    assert children
    vectors = moving.in_pgvector()

    moving.migrate(samples=1000)
    moving.place.drain()

    assert (moving.in_pgvector(), moving.in_qdrant()) == (0, vectors)
    assert moving.place.first("harbour gate") == "tide"


def test_an_empty_dataset_moves_and_its_first_document_goes_there(moving: MigrationPlace) -> None:
    moving.place.one("DELETE FROM documents")
    moving.place.one("DELETE FROM segment_vectors")
    moving.migrate()
    moving.place.drain()
    moving.place.add(lamp="The lighthouse lamp turns. " * 10)

    assert (moving.in_pgvector(), moving.in_qdrant()) == (0, 1)
    assert moving.place.first("lighthouse lamp") == "lamp"


def test_a_dry_run_writes_nothing(moving: MigrationPlace) -> None:
    migration = moving.migrate(is_trial=True)

    assert migration.is_needed
    assert migration.build_id is None
    assert moving.place.count("dataset_index_builds") == moving.place.count("outbox") == 0


def test_the_same_is_joined_and_another_is_refused(moving: MigrationPlace) -> None:
    first = moving.migrate(requested_by="ada@sea/17")
    second = moving.migrate(requested_by="bob@land/4")

    assert (second.build_id, second.is_joined, second.requested_by) == (
        first.build_id,
        True,
        "ada@sea/17",
    )
    with pytest.raises(IndexChangeInProgress, match="asked for by ada@sea/17"):
        moving.migrate(TO_SMALL)
    moving.require_in("qdrant")

    moving.place.to_small()
    with pytest.raises(IndexChangeInProgress, match="to small/32 in qdrant"):
        moving.migrate(TO_PGVECTOR)


def test_a_plain_rebuild_stays_where_the_dataset_is(moving: MigrationPlace) -> None:
    moving.migrate()
    moving.require_in("qdrant")
    moving.place.to_small()
    moving.require_in("qdrant")
    moving.place.change("remove")
    moving.place.drain()

    assert moving.place.dataset().vector_store is None
    assert moving.in_qdrant() == 0


@pytest.mark.parametrize(
    ("destination", "said"),
    [
        (Destination("pgvector", store="oracle"), "no vector store 'oracle'"),
        (Destination("pgvector", provider="nobody", model="x"), "no embedding provider 'nobody'"),
        (Destination("pgvector", provider="small"), "embedding model is a name"),
    ],
)
def test_what_cannot_be_is_refused(
    moving: MigrationPlace, destination: Destination, said: str
) -> None:
    with pytest.raises(InvalidRequest, match=said):
        moving.migrate(destination)


def test_an_economy_dataset_and_one_that_is_not_there_are_refused(
    moving: MigrationPlace, session: Session
) -> None:
    with pytest.raises(NotFound):
        migrate_dataset_vectors(session, "0" * 32, TO_QDRANT)
    moving.place.one("UPDATE datasets SET indexing_technique = 'economy'")
    with pytest.raises(InvalidRequest, match="has no vectors to move"):
        moving.migrate()


def built(moving: MigrationPlace, destination: Destination = TO_QDRANT) -> str:
    """All parts are done; the switch comes next. Returns the collection."""
    migration = moving.migrate(destination, samples=1000)
    moving.place.deliver(*moving.place.next_message())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("worker.services.dataset.index_building.finish_build", lambda *_: None)
        while (message := moving.place.next_message()) is not None:
            moving.place.deliver(*message)
    moving.build_id = migration.build_id
    (collection,) = moving.client.get_collections().collections
    return collection.name


def require_refused(moving: MigrationPlace, said: str) -> None:
    """The old vectors serve, the new ones go, and the build says why."""
    before = moving.first_of_each()
    with pytest.raises(MigrationUnverified, match=said):
        finish_build(moving.build_id, moving.place.needs)
    build = moving.place.build(moving.build_id)
    assert build.status == "error"
    assert "migrate again" in build.error
    assert moving.first_of_each() == before
    moving.require_in("pgvector")

    moving.migrate()
    moving.require_in("qdrant")


def one_point(moving: MigrationPlace, collection: str) -> models.Record:
    points, _ = moving.client.scroll(collection, limit=1, with_vectors=True, with_payload=True)
    return points[0]


def test_a_lost_vector_is_noticed(moving: MigrationPlace) -> None:
    collection = built(moving)
    moving.client.delete(collection, [one_point(moving, collection).id])
    require_refused(moving, "where 1 are missing")


def test_a_vector_too_many_is_noticed(moving: MigrationPlace) -> None:
    collection = built(moving)
    point = one_point(moving, collection)
    double = models.PointStruct(id=1, vector=point.vector, payload=point.payload)
    moving.client.upsert(collection, [double])
    require_refused(moving, "where 0 are missing")


def test_another_vector_is_noticed(moving: MigrationPlace) -> None:
    collection = built(moving)
    point = one_point(moving, collection)
    turned = models.PointVectors(id=point.id, vector=np.roll(point.vector, 1).tolist())
    moving.client.update_vectors(collection, [turned])
    require_refused(moving, "its vector in qdrant is another one")


def test_a_vector_that_search_does_not_find_is_noticed(moving: MigrationPlace) -> None:
    collection = built(moving)
    everything = models.Filter()
    moving.client.set_payload(collection, {"index": "elsewhere"}, points=everything)
    require_refused(moving, "and nothing in the new one")


def test_a_vector_of_the_other_model_that_is_another_is_noticed(moving: MigrationPlace) -> None:
    collection = built(moving, TO_SMALL)
    point = one_point(moving, collection)
    turned = models.PointVectors(id=point.id, vector=np.roll(point.vector, 1).tolist())
    moving.client.update_vectors(collection, [turned])
    require_refused(moving, "its vector in qdrant is another one")


def test_what_the_old_store_lacks_is_made_anew(moving: MigrationPlace) -> None:
    moving.place.one(
        "DELETE FROM segment_vectors WHERE id = (SELECT id FROM segment_vectors LIMIT 1)"
    )
    moving.migrate(samples=1000)
    moving.require_in("qdrant")
    assert len(set(moving.embedded)) == 1
