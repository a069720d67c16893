"""What is stuck goes out again; what merely waits is never touched."""

import contextlib
import os
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from flask import Flask
from redis import Redis
from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.contract import QUEUES
from shared.models import Dataset, Document, db
from tests.fixtures.application import Reader, Submit
from tests.fixtures.outbox_rows import MakeRelay, Outbox
from worker.delivery import lease
from worker.delivery.reaping import expire_leases_of
from worker.delivery.sweeper import Swept, sweep_messages
from worker.wiring import sweep

OLD = "SET published_at = now() - interval '1 hour'"


def sweep_all(rows: Outbox, unstarted_seconds: float = 60) -> Swept:
    with rows.celery.connection_for_write() as connection:
        return sweep_messages(rows.engine, connection, QUEUES, unstarted_seconds)


def lose_queues(redis_url: str) -> None:
    """Take away what waits, and leave the broker's memory of having been told."""
    with contextlib.closing(Redis.from_url(redis_url)) as client:
        for key in client.scan_iter("dataset*"):
            client.delete(key)


@pytest.fixture
def published(rows: Outbox, make_relay: MakeRelay) -> list[UUID]:
    """Messages that the broker has, for long."""
    rows.fill(uuid4(), 3)
    make_relay().run_pass()
    rows.change(f"UPDATE outbox {OLD}")
    return [row.id for row in rows.rows()]


def test_a_message_that_waits_in_the_broker_is_left_alone(
    rows: Outbox, published: list[UUID]
) -> None:
    before = rows.rows()
    assert sweep_all(rows) == Swept(0, 0)
    assert rows.rows() == before


def test_one_that_the_broker_lost_goes_out_again_and_the_next_search_is_later(
    rows: Outbox, published: list[UUID], redis_url: str, make_relay: MakeRelay
) -> None:
    lose_queues(redis_url)
    running, done, lost = published
    rows.change(
        "UPDATE outbox SET lease_expires_at = now() + interval '1 minute' WHERE id = :id",
        id=running,
    )
    rows.change("DELETE FROM outbox WHERE id = :id", id=done)

    assert sweep_all(rows) == Swept(expired=0, lost=1)
    make_relay().run_pass()

    assert rows.in_broker() == {str(lost)}
    (row,) = rows.rows("redeliveries = 1")
    assert row.id == lost
    lose_queues(redis_url)
    rows.change("UPDATE outbox SET published_at = now() - interval '90 s' WHERE id = :id", id=lost)
    assert sweep_all(rows) == Swept(0, 0), "twice as long as the first time"
    rows.change("UPDATE outbox SET published_at = now() - interval '121 s' WHERE id = :id", id=lost)
    assert sweep_all(rows) == Swept(0, 1)


def test_one_just_published_is_not_looked_for(
    rows: Outbox, published: list[UUID], redis_url: str
) -> None:
    rows.change("UPDATE outbox SET published_at = now()")
    lose_queues(redis_url)

    assert sweep_all(rows) == Swept(0, 0)


def test_an_expired_lease_goes_out_again_and_the_death_will_count(
    rows: Outbox, published: list[UUID]
) -> None:
    rows.change(
        "UPDATE outbox SET lease_expires_at = now() - interval '1 s', lease_owner = 'dead/1' "
        "WHERE id = :id",
        id=published[0],
    )
    assert sweep_all(rows) == Swept(expired=1, lost=0)

    (row,) = rows.rows("published_at IS NULL")
    assert row.id == published[0]
    assert row.lease_expires_at is not None


def test_the_leases_of_a_dead_child_end_at_once_and_nobody_elses(
    rows: Outbox, published: list[UUID]
) -> None:
    for message_id, owner in zip(published, ["node/1", "node/2", "node/11"], strict=True):
        rows.change(
            "UPDATE outbox SET lease_expires_at = now() + interval '1 h', lease_owner = :owner "
            "WHERE id = :id",
            id=message_id,
            owner=owner,
        )
    expire_leases_of(db.engine, "node/1")

    assert [row.id for row in rows.rows("published_at IS NULL")] == [published[0]]
    assert rows.count("lease_expires_at < now()") == 1
    assert lease.owner().endswith(f"/{os.getpid()}")


def test_documents_without_a_message_are_announced_again(
    app: Flask, session: Session, submit: Submit, reader: Reader, rows: Outbox
) -> None:
    names = ["fresh", "orphan", "dead", "paused", "announced"]
    ids = {name: submit({f"{name}.txt": name.encode()})[0].document_id for name in names}
    messages = {name: reader.document(one).message_id for name, one in ids.items()}
    rows.change("DELETE FROM outbox WHERE id <> :id", id=messages["announced"])
    rows.change(
        "UPDATE documents SET queued_at = now() - interval '1 hour' WHERE name <> 'fresh.txt'"
    )
    rows.change(
        "UPDATE documents SET indexing_status = 'parsing', "
        "lease_expires_at = now() - interval '1 s' WHERE name = 'dead.txt'"
    )
    rows.change(
        "UPDATE documents SET indexing_status = 'paused', is_paused = true "
        "WHERE name = 'paused.txt'"
    )
    sweep()

    found = {
        name
        for name, one in ids.items()
        if rows.count(f"id = '{reader.document(one).message_id}'") == 1
    }
    assert found == {"orphan", "dead", "announced"}
    assert reader.document(ids["announced"]).message_id == messages["announced"]
    announced = rows.in_broker()
    assert len(announced) == 1 or len(announced) == 2
    before = rows.count()
    sweep()
    assert rows.count() == before, "once is enough"


def test_a_thousand_orphans_and_more_are_announced_in_one_sweep(
    session: Session, dataset_id: UUID, rows: Outbox
) -> None:
    dataset = session.get_one(Dataset, dataset_id)
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    session.add_all(
        Document(
            tenant_id=dataset.tenant_id,
            dataset_id=dataset_id,
            position=number,
            name=str(number),
            source_key=str(number),
            doc_form=dataset.doc_form,
            index_version=1,
            queued_at=long_ago,
        )
        for number in range(1500)
    )
    session.commit()
    sweep()

    query = "EXISTS (SELECT 1 FROM documents WHERE message_id = outbox.id)"
    assert rows.count() == rows.count(query)
    orphans = "SELECT count(*) FROM documents WHERE message_id IS NULL"
    assert session.scalar(text(orphans)) == 0
