"""Datasets that nobody uses: disabled, noted, told to their owners, and used again by a search."""

from collections.abc import Callable
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from shared.contract import CLEAN_UNUSED_DATASETS, MAIL_CLEAN_DOCUMENT_NOTIFY
from shared.models import (
    Account,
    AccountStatus,
    Dataset,
    DatasetAutoDisableLog,
    Document,
    MailDelivery,
    Role,
    TenantAccountJoin,
    db,
)
from shared.submitting.availability import enable_documents
from shared.submitting.dataset import ensure_dataset
from tests.fixtures.application import Reader, Submit
from tests.fixtures.waiting import eventually
from worker import wiring
from worker.services.dataset.indexing import index_document
from worker.services.dataset.retrieval import search
from worker.wiring.maintenance import maintain

AGE = "now() - interval '31 days'"


@pytest.fixture
def document_ids(submit: Submit, dataset_id: UUID) -> list[UUID]:
    """Documents of the dataset that are completed."""
    files = {f"{number}.txt": f"The tide comes at {number}.".encode() for number in range(2)}
    ids = [one.document_id for one in submit(files)]
    for one in ids:
        index_document(one, dataset_id, wiring.indexing_needs())
    return ids


def age() -> None:
    """Let a month pass."""
    with db.engine.begin() as connection:
        connection.execute(
            text(f"UPDATE datasets SET last_searched_at = {AGE}, created_at = {AGE}")
        )
        connection.execute(
            text(
                f"UPDATE documents SET created_at = {AGE}, queued_at = {AGE}, "
                f"completed_at = {AGE}, changed_at = NULL"
            )
        )


def enabled(reader: Reader, ids: list[UUID]) -> list[bool]:
    return [reader.document(one).enabled for one in ids]


def change(statement: str) -> Callable[[], None]:
    def make() -> None:
        with db.engine.begin() as connection:
            connection.execute(text(statement))

    return make


@pytest.mark.parametrize(
    "use",
    [
        change("UPDATE datasets SET last_searched_at = now() - interval '29 days'"),
        change("UPDATE documents SET queued_at = now() WHERE position = 1"),
        change("UPDATE documents SET changed_at = now() WHERE position = 1"),
        change("UPDATE datasets SET created_at = now()"),
    ],
    ids=["searched", "indexed", "changed", "new"],
)
def test_what_is_used_stays(
    app: Flask, document_ids: list[UUID], reader: Reader, use: Callable[[], None]
) -> None:
    age()
    use()

    maintain(CLEAN_UNUSED_DATASETS)

    assert enabled(reader, document_ids) == [True, True]


def test_the_unused_are_disabled_and_noted_once_and_enabled_again_they_are_in_use(
    app: Flask, session: Session, document_ids: list[UUID], reader: Reader, dataset_id: UUID
) -> None:
    age()

    maintain(CLEAN_UNUSED_DATASETS)
    maintain(CLEAN_UNUSED_DATASETS)

    assert enabled(reader, document_ids) == [False, False]
    assert reader.document(document_ids[0]).disabled_at is not None
    logs = session.scalars(select(DatasetAutoDisableLog)).all()
    assert {one.document_id for one in logs} == set(document_ids)
    assert len(logs) == 2

    enable_documents(session, document_ids)
    session.commit()
    maintain(CLEAN_UNUSED_DATASETS)
    assert enabled(reader, document_ids) == [True, True]
    needs = wiring.retrieval_needs()
    assert search(dataset_id, "When does the tide come?", needs), "nothing had to be embedded"


def test_a_search_is_noted_within_the_hour_and_not_again(
    app: Flask, session: Session, document_ids: list[UUID], dataset_id: UUID
) -> None:
    def searched_at() -> object:
        session.rollback()
        return session.scalar(select(Dataset.last_searched_at))

    age()
    before = searched_at()
    search(dataset_id, "When does the tide come?", wiring.retrieval_needs())

    eventually(lambda: searched_at() != before, 20)
    noted = searched_at()
    uses: list[UUID] = []
    needs = wiring.retrieval_needs()
    object.__setattr__(needs, "note_use", uses.append)
    search(dataset_id, "When does the tide come?", needs)
    assert uses == []
    assert searched_at() == noted


def person(session: Session, tenant_id: UUID, name: str, role: Role, **columns: object) -> None:
    account = Account(name=name, email=f"{name}@example.com", **columns)
    session.add(account)
    session.flush()
    session.add(TenantAccountJoin(tenant_id=tenant_id, account_id=account.id, role=role))


def test_owners_get_one_mail_with_what_is_still_disabled(
    app: Flask, session: Session, document_ids: list[UUID], dataset_id: UUID
) -> None:
    tenant_id = session.get_one(Dataset, dataset_id).tenant_id
    ensure_dataset(session, tenant_id, "empty", "wordllama", "l2_supercat_256")
    person(session, tenant_id, "Ada", Role.OWNER, language="de-DE")
    person(session, tenant_id, "Bob", Role.OWNER, status=AccountStatus.CLOSED)
    person(session, tenant_id, "Eve", Role.EDITOR)
    session.get_one(Dataset, dataset_id).name = "two\nlines"
    session.commit()
    age()
    maintain(CLEAN_UNUSED_DATASETS)
    enable_documents(session, document_ids[:1])
    session.commit()

    maintain(MAIL_CLEAN_DOCUMENT_NOTIFY)
    maintain(MAIL_CLEAN_DOCUMENT_NOTIFY)

    (mail,) = session.scalars(select(MailDelivery)).all()
    assert (mail.recipient, mail.language, mail.kind) == (
        "Ada@example.com",
        "de-DE",
        "document_clean_notice",
    )
    assert mail.fields["knowledge_details"] == ["two lines: 1"]
    assert all(session.scalars(select(DatasetAutoDisableLog.notified)))


def test_without_an_owner_the_note_waits_for_one_and_goes_when_it_is_old(
    app: Flask, session: Session, document_ids: list[UUID]
) -> None:
    age()
    maintain(CLEAN_UNUSED_DATASETS)
    maintain(MAIL_CLEAN_DOCUMENT_NOTIFY)

    assert session.scalars(select(MailDelivery)).all() == []
    assert not any(session.scalars(select(DatasetAutoDisableLog.notified)))
    session.execute(
        text("UPDATE dataset_auto_disable_logs SET created_at = now() - interval '91 days'")
    )
    session.commit()
    maintain(MAIL_CLEAN_DOCUMENT_NOTIFY)
    assert session.scalars(select(DatasetAutoDisableLog)).all() == []


def test_many_documents_are_disabled_in_short_transactions(
    app: Flask, session: Session, dataset_id: UUID
) -> None:
    dataset = session.get_one(Dataset, dataset_id)
    session.add_all(
        Document(
            tenant_id=dataset.tenant_id,
            dataset_id=dataset_id,
            position=number,
            name=str(number),
            source_key=str(number),
            indexing_status="completed",
        )
        for number in range(1200)
    )
    session.commit()
    age()

    maintain(CLEAN_UNUSED_DATASETS)

    counts = "SELECT count(*), count(DISTINCT created_at) FROM dataset_auto_disable_logs"
    assert session.execute(text(counts)).one() == (1200, 3)
