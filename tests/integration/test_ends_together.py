"""Small documents of one message end in one transaction; what stops one of them stops no other."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, BinaryIO
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event, func, select, text, update
from sqlalchemy.orm import Session

from shared.errors import ShuttingDown
from shared.models import Document, DocumentSegment, DocumentStatus, db
from tests.fixtures.application import Reader, Submit
from worker.services.dataset.groups import index_documents
from worker.services.dataset.needs import Files, IndexingNeeds
from worker.wiring import indexing_needs

TEXT = b"The lamp of the third tower turns once in twelve seconds. " * 20
_ROWS = text("""
    SELECT document.name, document.total_segments, document.keyword_segments,
           document.active_version,
           (SELECT array_agg(content ORDER BY position) FROM document_segments
            WHERE document_id = document.id) AS contents,
           (SELECT count(*) FROM segment_keywords WHERE document_id = document.id
              AND version = document.active_version) AS keywords,
           (SELECT count(*) FROM segment_vectors JOIN document_segments USING (id)
            WHERE segment_vectors.document_id = document.id) AS vectors
    FROM documents AS document WHERE document.id = ANY(:ids) ORDER BY document.position
""")

_LEFT_OVER = text("""
    INSERT INTO document_segments (
        id, tenant_id, dataset_id, document_id, version, position, content, word_count, tokens,
        index_node_hash
    )
    VALUES (:id, :tenant, :dataset_id, :document_id, 1, 0, 'left over', 2, 2, 'none')
""")


class Watched:
    """The files; ``then`` is called when a certain one is opened."""

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
    """Six documents of a dataset that knows its dimension."""
    (first,) = submit({"first.txt": b"Whoever comes first says how long vectors are."})
    index_documents(dataset_id, [first.document_id], indexing_needs())
    contents = {f"{number}.txt": TEXT * 5 + str(number).encode() for number in range(6)}
    return [one.document_id for one in submit(contents)]


def watched(number: int, then: Callable[[], None]) -> IndexingNeeds:
    needs = indexing_needs()
    return replace(needs, files=Watched(needs.files, number, then))


@contextmanager
def counted_commits() -> Iterator[list[object]]:
    seen: list[object] = []

    def note(connection: object) -> None:
        seen.append(connection)

    event.listen(db.engine, "commit", note)
    yield seen
    event.remove(db.engine, "commit", note)


def rows(session: Session, ids: Sequence[UUID]) -> Sequence[Any]:
    session.rollback()
    return session.execute(_ROWS, {"ids": list(ids)}).all()


def test_all_of_them_are_whole_in_one_transaction(
    session: Session, dataset_id: UUID, ids: list[UUID]
) -> None:
    with counted_commits() as commits:
        index_documents(dataset_id, ids, indexing_needs())

    found = rows(session, ids)
    assert [one.name for one in found] == [f"{number}.txt" for number in range(6)]
    for number, one in enumerate(found):
        assert one.active_version == 1
        assert one.total_segments == one.keywords == one.vectors == one.keyword_segments > 1
        assert one.contents[-1].endswith(str(number))
    # One claim, and one end.
    assert len(commits) == 2


def test_statements_do_not_grow_with_the_documents_of_a_message(
    dataset_id: UUID, ids: list[UUID]
) -> None:
    statements: list[str] = []

    def note(*given: Any) -> None:
        statements.append(given[2])

    event.listen(db.engine, "before_cursor_execute", note)
    index_documents(dataset_id, ids, indexing_needs())
    event.remove(db.engine, "before_cursor_execute", note)

    # Their sizes, the claim, what they are; the leases, the index, three copies.
    assert len(statements) == 8, statements


def test_in_a_new_dataset_only_the_first_ends_alone(
    session: Session, dataset_id: UUID, submit: Submit
) -> None:
    contents = {f"{number}.txt": TEXT + str(number).encode() for number in range(6)}
    ids = [one.document_id for one in submit(contents)]

    with counted_commits() as commits:
        index_documents(dataset_id, ids, indexing_needs())

    assert {one.active_version for one in rows(session, ids)} == {1}
    # One claim, the end that says how long vectors are, and one end.
    assert len(commits) == 3


def test_one_that_is_gone_meanwhile_leaves_the_others_whole(
    session: Session, dataset_id: UUID, ids: list[UUID], reader: Reader
) -> None:
    def take_the_second() -> None:
        taken = update(Document).where(Document.id == ids[1])
        session.execute(taken.values(lease_token=Document.lease_token + 1))
        session.commit()

    index_documents(dataset_id, ids, watched(6, take_the_second))

    status = [reader.document(one).indexing_status for one in ids]
    assert status == [
        DocumentStatus.COMPLETED if one != ids[1] else DocumentStatus.PARSING for one in ids
    ]
    assert not session.scalar(select(func.count()).where(DocumentSegment.document_id == ids[1]))
    whole = [one for one in rows(session, ids) if one.name != "1.txt"]
    assert all(one.total_segments == one.vectors == one.keywords > 1 for one in whole)


def test_a_worker_that_is_told_to_go_writes_what_it_has(
    dataset_id: UUID, ids: list[UUID], reader: Reader
) -> None:
    def leave() -> None:
        raise ShuttingDown

    with pytest.raises(ShuttingDown):
        index_documents(dataset_id, ids, watched(4, leave))

    status = [reader.document(one).indexing_status for one in ids]
    assert status == [DocumentStatus.COMPLETED] * 3 + [DocumentStatus.WAITING] * 3


def test_one_that_a_worker_more_would_end_does_not_wait_for_the_others(
    session: Session, dataset_id: UUID, ids: list[UUID], reader: Reader
) -> None:
    needs = indexing_needs()
    died = update(Document).where(Document.id == ids[0])
    session.execute(died.values(deaths=needs.max_deaths - 1))
    session.commit()
    seen: list[str] = []

    def look() -> None:
        seen.extend(reader.document(one).indexing_status for one in ids[:2])

    index_documents(dataset_id, ids, replace(needs, files=Watched(needs.files, 3, look)))

    assert seen == [DocumentStatus.COMPLETED, DocumentStatus.PARSING]


def test_many_segments_are_not_kept_in_memory(
    session: Session, dataset_id: UUID, ids: list[UUID]
) -> None:
    segments = 7
    with counted_commits() as commits:
        index_documents(dataset_id, ids, replace(indexing_needs(), batch_segments=segments))

    found = rows(session, ids)
    assert all(one.total_segments == one.vectors for one in found)
    assert max(one.total_segments for one in found) < segments
    assert len(commits) > 2


def test_rows_that_are_there_already_are_replaced(
    session: Session, dataset_id: UUID, ids: list[UUID], reader: Reader
) -> None:
    def leave_a_row() -> None:
        row = {"id": uuid4(), "document_id": ids[2], "tenant": reader.document(ids[2]).tenant_id}
        session.execute(_LEFT_OVER, row | {"dataset_id": dataset_id})
        session.commit()

    index_documents(dataset_id, ids, watched(6, leave_a_row))

    found = rows(session, ids)
    assert all(one.total_segments == one.vectors == one.keywords > 1 for one in found)
    assert not any("left over" in content for one in found for content in one.contents)
