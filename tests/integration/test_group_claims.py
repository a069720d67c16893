"""Documents of one message are claimed at once; none of them pays for another's end."""

from collections.abc import Callable
from dataclasses import replace
from typing import BinaryIO
from uuid import UUID

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from shared.errors import ShuttingDown
from shared.models import Document, DocumentStatus
from shared.submitting.control import pause_documents
from tests.fixtures.application import Reader, Submit
from worker.services.dataset.groups import index_documents
from worker.services.dataset.needs import Files, IndexingNeeds
from worker.wiring import indexing_needs

TEXT = b"The second bell of the harbour is rung when fog comes in. " * 20


class At:
    """The files; ``then`` is called when a certain one of them is opened."""

    def __init__(self, files: Files, number: int, then: Callable[[], None]) -> None:
        self._files = files
        self._number = number
        self._then = then

    def open(self, key: str) -> BinaryIO:
        self._number -= 1
        if self._number == 0:
            self._then()
        return self._files.open(key)


@pytest.fixture
def ids(dataset_id: UUID, submit: Submit) -> list[UUID]:
    """Five documents of a dataset that knows its dimension."""
    (first,) = submit({"first.txt": b"Whoever comes first says how long vectors are."})
    index_documents(dataset_id, [first.document_id], indexing_needs())
    contents = {f"{number}.txt": TEXT + str(number).encode() for number in range(5)}
    return [one.document_id for one in submit(contents)]


def at(number: int, then: Callable[[], None]) -> IndexingNeeds:
    needs = indexing_needs()
    return replace(needs, files=At(needs.files, number, then))


def test_all_are_held_while_the_first_is_in_work(
    dataset_id: UUID, ids: list[UUID], reader: Reader
) -> None:
    seen: list[bool] = []

    def look() -> None:
        seen.extend(reader.document(one).lease_expires_at is not None for one in ids)

    index_documents(dataset_id, ids, at(1, look))

    assert seen == [True] * 5
    documents = [reader.document(one) for one in ids]
    assert {one.indexing_status for one in documents} == {DocumentStatus.COMPLETED}
    assert {one.lease_expires_at for one in documents} == {None}


def test_what_was_not_begun_is_free_again_and_its_attempt_does_not_count(
    dataset_id: UUID, ids: list[UUID], reader: Reader
) -> None:
    def leave() -> None:
        raise ShuttingDown

    with pytest.raises(ShuttingDown):
        index_documents(dataset_id, ids, at(2, leave))

    left = [reader.document(one) for one in ids[1:]]
    assert [one.indexing_status for one in left] == [DocumentStatus.WAITING] * 4
    assert [(one.lease_expires_at, one.lease_owner) for one in left] == [(None, None)] * 4
    assert [(one.attempts, one.deaths, one.error) for one in left] == [(0, 0, None)] * 4


def test_one_that_a_worker_died_on_is_not_claimed_before_its_turn(
    session: Session, dataset_id: UUID, ids: list[UUID], reader: Reader
) -> None:
    session.execute(update(Document).where(Document.id == ids[3]).values(deaths=1))
    session.commit()
    seen: list[DocumentStatus] = []

    def look() -> None:
        seen.extend(reader.document(one).indexing_status for one in ids)

    index_documents(dataset_id, ids, at(1, look))

    parsing, waiting = DocumentStatus.PARSING, DocumentStatus.WAITING
    assert seen == [parsing, parsing, parsing, waiting, parsing]
    assert {reader.document(one).indexing_status for one in ids} == {DocumentStatus.COMPLETED}


def test_where_one_death_ends_a_document_each_is_claimed_by_itself(
    dataset_id: UUID, ids: list[UUID], reader: Reader
) -> None:
    seen: list[DocumentStatus] = []

    def look() -> None:
        seen.extend(reader.document(one).indexing_status for one in ids)

    index_documents(dataset_id, ids, replace(at(2, look), max_deaths=1))

    waiting = DocumentStatus.WAITING
    assert seen == [DocumentStatus.COMPLETED, DocumentStatus.PARSING, *[waiting] * 3]


def test_one_that_is_paused_before_its_turn_stays_paused(
    session: Session, dataset_id: UUID, ids: list[UUID], reader: Reader
) -> None:
    def pause() -> None:
        pause_documents(session, [ids[4]])
        session.commit()

    index_documents(dataset_id, ids, at(2, pause))

    status = [reader.document(one).indexing_status for one in ids]
    assert status == [DocumentStatus.COMPLETED] * 4 + [DocumentStatus.PAUSED]


def test_those_of_another_dataset_are_left_alone(
    session: Session, dataset_id: UUID, ids: list[UUID], reader: Reader
) -> None:
    index_documents(UUID(int=7), ids, indexing_needs())

    query = select(func.count()).where(Document.id.in_(ids), Document.lease_token == 0)
    assert session.scalar(query) == 5
    assert {reader.document(one).indexing_status for one in ids} == {DocumentStatus.WAITING}
