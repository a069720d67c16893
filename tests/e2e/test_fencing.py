"""A worker that is cut off from the database, or frozen, stops its work itself and says so."""

from uuid import UUID

import psutil
from flask import Flask
from redis import Redis
from sqlalchemy import TextClause, func, make_url, select, text
from sqlalchemy.orm import Session

from shared.models import Document, DocumentSegment, DocumentStatus, SegmentVector
from shared.queueing import outbox
from tests.chaos.proxy import Proxy
from tests.e2e.delivery_tasks import BEGUN, ENDED
from tests.fixtures.application import Reader, Submit
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker

SECONDS = 300
LARGE = b"The lighthouse lamp turns once in twelve seconds, whatever the weather. " * 8000
LEASE = {
    "DELIVERY_LEASE_SECONDS": "2",
    "SWEEP_SECONDS": "1",
    # The frozen worker's open read may take the message that is sent out again.
    "OUTBOX_REDELIVERY_SECONDS": "2",
}


def test_work_whose_lease_cannot_be_renewed_is_stopped_by_its_own_worker(
    app: Flask, session: Session, database_uri: str, start_worker: StartWorker
) -> None:
    redis: Redis = app.extensions["redis"]
    uri = make_url(database_uri)
    with Proxy(uri.port or 0) as proxy:
        through = uri.set(port=proxy.port).render_as_string(hide_password=False)
        worker = start_worker(
            *("threads", 1, "-I", "tests.e2e.delivery_tasks"),
            SQLALCHEMY_DATABASE_URI=through,
            **LEASE,
        )
        outbox.write(session, "tests.notices", celery=app.extensions["celery"])
        session.commit()
        eventually(lambda: redis.llen(BEGUN) == 1, SECONDS)

        proxy.swallow()

        eventually(lambda: redis.llen(ENDED) == 1, SECONDS)
        assert "the lease was not renewed for 2 s" in redis.lrange(ENDED, 0, -1)[0]
        eventually(lambda: "the lease was not renewed" in worker.output(), SECONDS)
        proxy.heal()


def test_a_child_frozen_past_its_lease_writes_nothing_when_it_wakes_up(
    submit: Submit, reader: Reader, session: Session, start_worker: StartWorker
) -> None:
    frozen = start_worker("prefork", 1, INDEXING_BATCH_SEGMENTS="1", **LEASE)
    (one,) = submit({"large.txt": LARGE}, announce=True)
    eventually(lambda: reader.document(one.document_id).completed_segments > 0, SECONDS)
    family = _freeze_in_a_transaction(session, frozen.pid)

    start_worker("prefork", 1, **LEASE)
    (document,) = reader.await_end(one.document_id, seconds=SECONDS)
    assert document.indexing_status == DocumentStatus.COMPLETED
    before = _facts(session, reader, one.document_id)
    for process in family:
        process.resume()

    eventually(
        lambda: "the lease" in frozen.output() or "no longer the newest" in frozen.output(), SECONDS
    )
    assert _facts(session, reader, one.document_id) == before


_RUNNING = text("""
    SELECT count(*) FROM pg_stat_activity
    WHERE state = 'active' AND pid <> pg_backend_pid() AND datname = current_database()
""")
_HOLDERS = text("""
    SELECT count(*) FROM pg_stat_activity JOIN pg_locks USING (pid)
    WHERE state = 'idle in transaction' AND mode = 'RowExclusiveLock'
      AND relation = 'documents'::regclass AND datname = current_database()
""")


def _freeze_in_a_transaction(session: Session, pid: int) -> list[psutil.Process]:
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]

    def count(query: TextClause) -> int:
        session.rollback()  # within a transaction PostgreSQL repeats its first answer
        return int(session.scalar(query) or 0)

    def froze() -> bool:
        for process in family:
            process.suspend()
        # A frozen process is in the middle of a transaction, not of a statement.
        eventually(lambda: count(_RUNNING) == 0, SECONDS)
        if count(_HOLDERS):
            return True
        for process in family:
            process.resume()
        return False

    eventually(froze, SECONDS, step=0.001)
    session.rollback()
    return family


def _facts(session: Session, reader: Reader, document_id: UUID) -> tuple[object, ...]:
    document = reader.document(document_id)
    counts = [
        session.scalar(select(func.count()).where(table.document_id == document_id))
        for table in (DocumentSegment, SegmentVector)
    ]
    columns = [getattr(document, column.key) for column in Document.__table__.columns]
    return (*columns, *counts)
