"""Each verdict, on rows that the real operations made."""

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from flask import Flask
from sqlalchemy.orm import Session

from shared.errors import EmptyFile
from shared.models import Dataset
from shared.submitting.control import cancel_documents, pause_documents
from tests.fixtures.application import Submit
from tests.fixtures.outbox_rows import Outbox
from worker.delivery.switches import Action, switch
from worker.services.dataset.claiming import claim_document
from worker.services.dataset.explaining import Bounds, explain
from worker.services.dataset.indexing import index_document
from worker.services.dataset.verdict import Cause, Kind, Verdict
from worker.wiring import indexing_needs

BOUNDS = Bounds(
    tenant_cap=64,
    high_water_mark=1000,
    sweep_seconds=30,
    redelivery_seconds=60,
    silent_seconds=30,
    wedged_seconds=90,
)
WORKER = """
    INSERT INTO worker_nodes (name, host, pid, process_created, pool, concurrency, queues, busy,
                              started_at, seen_at)
    VALUES ('celery@a', 'a', 1, 1.0, 'prefork', 4, '{dataset}', 0, now(), now())
"""


class Case:
    """A waiting document with a worker, and what happens to it."""

    def __init__(self, session: Session, dataset_id: UUID, rows: Outbox, submit: Submit) -> None:
        self.session, self.dataset_id, self.rows = session, dataset_id, rows
        self.submit = submit
        self.id = submit({"kitchen.txt": b"The oven is hot.\n" * 2000})[0].document_id
        rows.change(WORKER)
        self.bounds = BOUNDS

    def tenant_id(self) -> UUID:
        return self.session.get_one(Dataset, self.dataset_id).tenant_id

    def commit(self) -> None:
        self.session.commit()

    def claim(self) -> None:
        with indexing_needs().sessions.begin() as session:
            assert claim_document(session, self.id, self.dataset_id, 60) is not None

    def index(self) -> None:
        index_document(self.id, self.dataset_id, indexing_needs())

    def verdict(self) -> Verdict:
        self.session.rollback()
        return explain(self.session, self.id, self.bounds)


@pytest.fixture
def case(session: Session, dataset_id: UUID, rows: Outbox, submit: Submit, app: Flask) -> Case:
    return Case(session, dataset_id, rows, submit)


def queued(case: Case) -> None:
    pass


def published(case: Case) -> None:
    case.rows.change("UPDATE outbox SET published_at = now()")


def paused(case: Case) -> None:
    pause_documents(case.session, [case.id])
    case.commit()


def held(case: Case) -> None:
    switch(case.session, Action.HOLD, subject_id=case.id, reason="audit")
    case.commit()


def held_by_tenant(case: Case) -> None:
    switch(case.session, Action.HOLD, tenant_id=case.tenant_id())
    case.commit()


def capped(case: Case) -> None:
    case.rows.fill(case.tenant_id(), 3)
    case.rows.change("UPDATE outbox SET published_at = now() WHERE task = 'probe.quiet'")
    case.bounds = replace(BOUNDS, tenant_cap=3)


def above_high_water(case: Case) -> None:
    case.rows.fill(uuid4(), 3)
    case.rows.change("UPDATE outbox SET published_at = now() WHERE task = 'probe.quiet'")
    case.bounds = replace(BOUNDS, high_water_mark=3)


def without_worker(case: Case) -> None:
    case.rows.change("DELETE FROM worker_nodes")


def with_silent_worker(case: Case) -> None:
    case.rows.change("UPDATE worker_nodes SET seen_at = now() - interval '31 s'")


def with_wedged_worker(case: Case) -> None:
    case.rows.change("UPDATE worker_nodes SET unserved_since = now() - interval '91 s'")


def with_other_worker(case: Case) -> None:
    case.rows.change("UPDATE worker_nodes SET queues = '{mail}'")


def running(case: Case) -> None:
    case.claim()


def retrying(case: Case) -> None:
    case.rows.change(
        "UPDATE outbox SET available_at = now() + interval '9 s', attempts = 1, error = 'no luck'"
    )


def died(case: Case) -> None:
    case.claim()
    case.rows.change("UPDATE documents SET lease_expires_at = now() - interval '1 s'")


def unannounced(case: Case) -> None:
    case.rows.change("DELETE FROM outbox")


def in_a_group(case: Case) -> None:
    case.rows.change(
        "UPDATE outbox SET lease_owner = 'a/1', lease_expires_at = now() + interval '9 s'"
    )


def cancelled(case: Case) -> None:
    cancel_documents(case.session, [case.id])
    case.commit()


def empty(case: Case) -> None:
    case.id = case.submit({"empty.txt": b" "})[0].document_id
    with pytest.raises(EmptyFile):
        case.index()


def completed(case: Case) -> None:
    case.index()


def deleted(case: Case) -> None:
    case.rows.change("DELETE FROM documents")


@pytest.mark.parametrize(
    ("make", "kind", "cause", "words"),
    [
        (queued, Kind.QUEUED, None, "0 messages are before it, for 4 slots"),
        (published, Kind.QUEUED, None, "0 messages"),
        (paused, Kind.HELD_BACK, Cause.PAUSE, "paused"),
        (held, Kind.HELD_BACK, Cause.SWITCH, "audit"),
        (held_by_tenant, Kind.HELD_BACK, Cause.SWITCH, "tenant"),
        (capped, Kind.HELD_BACK, Cause.TENANT_CAP, "than the 3"),
        (above_high_water, Kind.STARVED, Cause.HIGH_WATER_MARK, "1 other tenants"),
        (without_worker, Kind.STARVED, Cause.NO_WORKER, "'dataset'"),
        (with_silent_worker, Kind.STARVED, Cause.NO_WORKER, "'dataset'"),
        (with_wedged_worker, Kind.STARVED, Cause.NO_WORKER, "'dataset'"),
        (with_other_worker, Kind.STARVED, Cause.NO_WORKER, "'dataset'"),
        (running, Kind.RUNNING, None, "is parsing it"),
        (retrying, Kind.RETRYING, None, "no luck"),
        (died, Kind.STUCK, Cause.WORKER_DIED, "died"),
        (unannounced, Kind.STUCK, Cause.NO_MESSAGE, "nothing announces it"),
        (in_a_group, Kind.QUEUED, None, "in the hands of a/1"),
        (cancelled, Kind.DEAD, None, "cancelled"),
        (empty, Kind.DEAD, None, "holds no text"),
        (completed, Kind.COMPLETED, None, "searchable"),
        (deleted, Kind.GONE, None, "deleted"),
    ],
)
def test_each_verdict(
    case: Case, make: Callable[[Case], None], kind: Kind, cause: Cause | None, words: str
) -> None:
    make(case)

    verdict = case.verdict()

    assert (verdict.kind, verdict.cause) == (kind, cause), verdict
    assert words in verdict.summary
    assert verdict.way_out
    assert verdict.document_id == case.id


def test_the_position_counts_what_goes_before_it_and_the_time_goes_by_the_dataset(
    case: Case,
) -> None:
    case.index()
    case.rows.change("DELETE FROM outbox")
    case.rows.change("UPDATE documents SET indexing_latency = 8")
    case.rows.fill(uuid4(), 5)
    case.id = case.submit({"b.txt": b"one"})[0].document_id
    case.rows.fill(uuid4(), 7)

    verdict = case.verdict()

    assert (verdict.kind, verdict.position, verdict.eta_seconds) == (Kind.QUEUED, 5, 10.0)


def test_a_dead_letter_is_named_with_the_command_that_replays_it(case: Case) -> None:
    cancelled(case)
    case.rows.change(
        """
        INSERT INTO dead_letters (id, message_id, tenant_id, task, queue, args, kwargs, attempts,
                                  exception, reason)
        SELECT gen_random_uuid(), id, tenant_id, task, queue, args, kwargs, 1, 'X', 'no'
        FROM outbox
        """
    )
    verdict = case.verdict()
    assert verdict.dead_letter_id is not None
    assert f"dead-letters replay {verdict.dead_letter_id}" in verdict.way_out


def test_what_is_stuck_says_by_when_the_sweeper_has_it(case: Case) -> None:
    died(case)
    verdict = case.verdict()
    assert verdict.since is not None
    assert verdict.until is not None
    assert 29 < (verdict.until - verdict.since).total_seconds() < 120
