"""What a message may say, which queue it goes to, and whose it is."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from celery import Celery, shared_task
from flask import Flask
from sqlalchemy.orm import Session

import tests.fixtures.probe_tasks  # noqa: F401 - registers the tasks
from shared.contract import DOCUMENT_INDEXING
from shared.errors import InvalidRequest
from shared.models import NO_TENANT, Dataset, db
from shared.queueing import outbox
from shared.queueing.task import FlaskTask
from tests.fixtures.outbox_rows import Outbox


@shared_task(name="probe.of_mail", queue="mail")
def of_mail() -> None:
    pass


@shared_task(name="probe.of_nobody", queue="nobody")
def of_nobody() -> None:
    pass


@pytest.fixture
def celery(app: Flask) -> Celery:
    made: Celery = app.extensions["celery"]
    return made


@pytest.fixture
def task(celery: Celery) -> FlaskTask:
    found: Any = celery.tasks["probe.quiet"]
    assert isinstance(found, FlaskTask)
    return found


@pytest.mark.parametrize(
    "argument",
    [object(), {1, 2}, float("nan"), float("inf"), "nul \0", {"nul \0": 1}, "\ud800"],
    ids=["object", "set", "nan", "infinity", "nul", "nul in a key", "surrogate"],
)
def test_what_json_cannot_say_is_refused_and_nothing_is_written(
    task: FlaskTask, rows: Outbox, argument: object
) -> None:
    with pytest.raises(InvalidRequest, match=r"probe\.quiet"):
        task.delay_on_commit(argument)
    with pytest.raises(InvalidRequest, match=r"probe\.quiet"):
        task.delay_on_commit(name=argument)
    db.session.commit()

    assert rows.count() == 0


def test_what_celery_can_say_arrives_as_it_would_with_delay(
    celery: Celery, task: FlaskTask, rows: Outbox
) -> None:
    task.delay_on_commit(UUID(int=7), ["nested", {"a": None}])
    db.session.commit()

    with celery.connection_for_read() as connection, connection.SimpleQueue("dataset") as queue:
        args, _, _ = queue.get(timeout=300).decode()
    assert args == [UUID(int=7), ["nested", {"a": None}]]


def test_a_tasks_own_queue_counts_and_one_that_nobody_serves_is_refused(
    celery: Celery, rows: Outbox
) -> None:
    mail: Any = celery.tasks["probe.of_mail"]
    nobody: Any = celery.tasks["probe.of_nobody"]
    message_id = mail.delay_on_commit()
    with pytest.raises(InvalidRequest, match="nobody"):
        nobody.delay_on_commit()
    db.session.commit()

    assert [row.id for row in rows.rows()] == [message_id]
    assert rows.in_broker("mail") == {str(message_id)}


def test_a_message_about_a_dataset_is_its_tenants(
    celery: Celery, session: Session, dataset_id: UUID, rows: Outbox
) -> None:
    owner = session.get_one(Dataset, dataset_id).tenant_id
    unsaved = Dataset(
        id=uuid4(), tenant_id=owner, name="new", embedding_provider="none", embedding_model="none"
    )
    session.add(unsaved)
    name = DOCUMENT_INDEXING.name
    outbox.write(session, name, [dataset_id.hex, []], celery=celery)
    outbox.write(session, name, kwargs={"dataset_id": str(dataset_id), "document_ids": []})
    outbox.write(session, name, [str(unsaved.id), []])
    outbox.write(session, name, [str(uuid4()), []])
    outbox.write(session, name, ["not an id", []])
    session.commit()

    assert [row.tenant_id for row in rows.rows()] == [owner] * 3 + [NO_TENANT] * 2
