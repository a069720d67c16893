"""What a dead worker held is free before its leases run out; what a live one holds stays."""

import os
import platform
import subprocess
import sys
from uuid import UUID, uuid4

import psutil
import pytest
from sqlalchemy.orm import Session

from shared.models import db
from tests.fixtures.outbox_rows import Outbox
from worker.delivery import lease
from worker.delivery.burying import Undertaker

HOST = platform.node()


@pytest.fixture
def dead() -> tuple[int, float]:
    """A process that is no more."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        created = psutil.Process(process.pid).create_time()
        process.kill()
    return process.pid, created


class Crew:
    def __init__(self, rows: Outbox) -> None:
        self.rows = rows

    def worker(self, name: str, process: tuple[int, float], silent: float, host: str) -> UUID:
        """A worker that reported so many seconds ago, and the message it has in hand."""
        self.rows.change(
            "INSERT INTO worker_nodes (name, host, pid, process_created, pool, concurrency, "
            "queues, busy, started_at, seen_at) VALUES (:name, :host, :pid, :created, 'prefork', "
            "1, '{dataset}', 1, now(), now() - make_interval(secs => :silent))",
            name=name,
            host=host,
            pid=process[0],
            created=process[1],
            silent=silent,
        )
        return self.message(f"{name}/99999999")

    def message(self, owner: str) -> UUID:
        tenant = uuid4()
        self.rows.fill(tenant, 1)
        self.rows.change(
            "UPDATE outbox SET published_at = now(), lease_owner = :owner, "
            "lease_expires_at = now() + interval '1 h' WHERE tenant_id = :tenant",
            owner=owner,
            tenant=tenant,
        )
        return self.rows.rows(f"tenant_id = '{tenant}'")[0].id

    def freed(self) -> set[UUID]:
        return {one.id for one in self.rows.rows("published_at IS NULL")}


@pytest.fixture
def crew(rows: Outbox, session: Session) -> Crew:
    return Crew(rows)


def test_the_silent_dead_of_this_host_are_buried_and_nobody_else(
    crew: Crew, dead: tuple[int, float]
) -> None:
    alive = os.getpid(), psutil.Process().create_time()
    gone = crew.worker("gone@a", dead, 21, HOST)
    crew.worker("gone@ab", dead, 19, HOST)  # another name that begins alike, not silent yet
    crew.worker("frozen@a", alive, 999, HOST)
    crew.worker("far@a", dead, 999, "elsewhere")
    undertaker = Undertaker(db.engine, "me@a", HOST, 10)

    undertaker.bury_silent()
    assert crew.freed() == {gone}
    assert crew.rows.count("lease_expires_at < now()") == 1, "the death counts"

    late = crew.message("gone@a/7")
    undertaker.bury_silent()
    assert late not in crew.freed(), "once is enough: what comes later is another's of that name"


def test_who_takes_a_dead_workers_place_takes_its_work(
    crew: Crew, dead: tuple[int, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease._Node, "name", "again@a")
    old = crew.worker("again@a", dead, 0, HOST)
    crew.message(lease.owner())  # its own
    Undertaker(db.engine, "again@a", HOST, 10).bury_predecessor()
    assert crew.freed() == {old}


def test_a_worker_that_still_runs_has_no_successor(crew: Crew) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        twin = process.pid, psutil.Process(process.pid).create_time()
        crew.worker("twin@a", twin, 999, HOST)
        Undertaker(db.engine, "twin@a", HOST, 10).bury_predecessor()
        assert crew.freed() == set()
        process.kill()
