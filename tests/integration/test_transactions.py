"""Transactions that meet are begun anew: on PostgreSQL, and on MariaDB where one is named."""

import io
from functools import partial
from threading import Barrier, Thread
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import func, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from shared.models import Dataset, Document, OutboxMessage, Tenant, db
from shared.queueing.transactions import in_transaction
from shared.submitting.dataset import ensure_dataset, ensure_tenant, submit_documents
from shared.submitting.files import StoredFile, store_file
from worker.cli.failures import _server_failure

FILES = 6
#: What has the server say that two transactions met.
MET = dict.fromkeys(("mysql", "mariadb"), "SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213")
MET["postgresql"] = "DO $$ BEGIN RAISE SQLSTATE '40P01'; END $$"


@pytest.fixture
def tenant_id(session: Session) -> UUID:
    made = ensure_tenant(session, "acme")
    session.commit()
    return made


def stored(app: Flask, tenant_id: UUID, author: str) -> list[tuple[str, StoredFile]]:
    storage = app.extensions["storage"]
    names = [f"{author} {number}.txt" for number in range(FILES)]
    return [
        (name, store_file(storage, tenant_id, name, io.BytesIO(name.encode()))) for name in names
    ]


@pytest.fixture
def datasets(session: Session, tenant_id: UUID) -> list[UUID]:
    made = [
        ensure_dataset(session, tenant_id, name, "wordllama", "l2_supercat_256")
        for name in ("manuals", "letters")
    ]
    session.commit()
    return made


def run_all(*threads: Thread) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_two_submitters_that_deadlock_both_get_all_they_submitted(
    app: Flask, session: Session, tenant_id: UUID, datasets: list[UUID]
) -> None:
    have_the_first = Barrier(2, timeout=30)
    attempts: list[str] = []

    def submit(name: str, order: list[UUID]) -> None:
        first, second = order
        files = stored(app, tenant_id, name)

        def both(opened: Session) -> None:
            opened.execute(select(Dataset.id).where(Dataset.id == first).with_for_update())
            attempts.append(name)
            if attempts.count(name) == 1:
                have_the_first.wait()
            for dataset_id in (second, first):
                submit_documents(opened, app.extensions["redis"], dataset_id, files)

        with app.app_context():
            in_transaction(partial(Session, db.engine), both)

    run_all(
        Thread(target=submit, args=("one", datasets)),
        Thread(target=submit, args=("other", datasets[::-1])),
    )
    documents = session.execute(
        select(Document.dataset_id, func.count()).group_by(Document.dataset_id)
    )
    assert {row[0]: row[1] for row in documents} == dict.fromkeys(datasets, 2 * FILES)
    assert session.scalar(select(func.count()).select_from(OutboxMessage))
    assert len(attempts) > 2, "they met"


def test_what_goes_wrong_otherwise_is_raised_at_once(app: Flask) -> None:
    calls = []

    def fail(session: Session) -> None:
        calls.append(1)
        session.execute(text("SELECT no_such_column FROM tenants"))

    with pytest.raises(Exception, match="no_such_column"), app.app_context():
        in_transaction(partial(Session, db.engine), fail)
    assert len(calls) == 1


def test_who_meets_others_again_and_again_is_told_to_come_back(
    app: Flask, session: Session
) -> None:
    calls = []

    def meet(opened: Session) -> None:
        calls.append(1)
        opened.add(Tenant(name=f"never {len(calls)}"))
        opened.flush()
        opened.connection().exec_driver_sql(MET[db.engine.dialect.name])

    with pytest.raises(OperationalError) as raised, app.app_context():
        in_transaction(partial(Session, db.engine), meet)
    assert len(calls) == 6
    assert session.scalar(select(func.count()).select_from(Tenant)) == 0
    assert "run it again" in (_server_failure(raised.value) or "")
