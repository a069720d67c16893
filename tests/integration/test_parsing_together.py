"""Small pages of a message are read and parsed together; what is wrong with one is its own."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.models import Document, DocumentSegment, DocumentStatus, UploadFile
from tests.fixtures.application import Reader, Submit
from tests.fixtures.misbehaving_parser import PARSER
from worker.providers.confined_parser import ConfinedParser
from worker.services.dataset.groups import index_documents
from worker.wiring import indexing_needs

ROOT = Path(__file__).parents[2]
PARAGRAPH = "The harbour of the fourth island freezes in January. " * 10


@pytest.fixture
def parser(monkeypatch: pytest.MonkeyPatch) -> Iterator[ConfinedParser]:
    """Its only child does what the files say."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    made = ConfinedParser(PARSER, parse_seconds=60, parse_memory_bytes=1024**3, max_children=1)
    yield made
    made.close()


def asked(*files: str) -> list[tuple[bytes, str]]:
    return [(one.encode(), f"{number}.html") for number, one in enumerate(files)]


def page(number: int) -> bytes:
    body = f"<h1>Page {number}</h1><p>{PARAGRAPH}</p><p>It ends with {number}.</p>"
    return f"<html><head><title>T</title></head><body>{body}</body></html>".encode()


def contents(session: Session, document_id: UUID) -> list[str]:
    session.rollback()
    query = select(DocumentSegment.content).where(DocumentSegment.document_id == document_id)
    return list(session.scalars(query.order_by(DocumentSegment.position)))


def test_files_of_one_visit_have_their_own_blocks(parser: ConfinedParser) -> None:
    found = list(parser.parse_together(asked("echo first", "many 3", "echo last", "pid")))
    assert [[block.text for block in one or ()] for one in found[:3]] == [
        ["first"],
        ["block 0", "block 1", "block 2"],
        ["last"],
    ]
    assert list(parser.parse(b"pid", "a.html")) == found[3]


def test_one_that_cannot_be_read_is_left_out_and_its_child_goes_on(parser: ConfinedParser) -> None:
    (before,) = parser.parse(b"pid", "a.html")
    found = list(parser.parse_together(asked("echo first", "raises UnreadableFile", "pid")))
    assert [one and one[0].text for one in found] == ["first", None, before.text]


@pytest.mark.parametrize("end", ["exits 3", "defect x"])
def test_a_child_that_ends_meanwhile_leaves_the_rest_to_another(
    parser: ConfinedParser, end: str
) -> None:
    found = list(parser.parse_together(asked("echo first", end, "echo last")))
    assert [one and one[0].text for one in found] == ["first"]
    assert [block.text for block in parser.parse(b"echo again", "a.html")] == ["again"]


def test_answers_nobody_waited_for_are_no_other_files(parser: ConfinedParser) -> None:
    parsed = parser.parse_together(asked("echo first", "echo second", "echo third"))
    next(parsed)
    parsed.close()
    assert [block.text for block in parser.parse(b"echo another", "a.html")] == ["another"]


def test_pages_become_what_each_becomes_alone(
    app: Flask, session: Session, dataset_id: UUID, submit: Submit, reader: Reader
) -> None:
    ids = [one.document_id for one in submit({f"{one}.html": page(one) for one in range(6)})]
    copies = {f"copy {one}.html": page(one) for one in range(6)}
    alone = [one.document_id for one in submit(copies)]

    index_documents(dataset_id, ids, indexing_needs())
    needs = replace(indexing_needs(), parse_together=None)
    for one in alone:
        index_documents(dataset_id, [one], needs)

    for number, (one, other) in enumerate(zip(ids, alone, strict=True)):
        assert reader.document(one).indexing_status == DocumentStatus.COMPLETED
        made = contents(session, one)
        assert made == contents(session, other)
        assert made[-1].endswith(f"It ends with {number}.")


def test_one_that_is_broken_and_one_that_is_gone_say_so_themselves(
    app: Flask, session: Session, dataset_id: UUID, submit: Submit, reader: Reader
) -> None:
    files = {f"{one}.html": page(one) for one in range(5)}
    files["1.html"] = b"\x7fELF" + bytes(range(256))
    ids = [one.document_id for one in submit(files)]
    key = session.scalars(
        select(UploadFile.storage_key).join(Document).where(Document.id == ids[3])
    ).one()
    app.extensions["storage"].rm_file(key)

    index_documents(dataset_id, ids, indexing_needs())

    found = [reader.document(one) for one in ids]
    assert [one.indexing_status for one in found] == [
        DocumentStatus.ERROR if number in {1, 3} else DocumentStatus.COMPLETED
        for number in range(5)
    ]
    assert "1.html is not text but a program" in (found[1].error or "")
    assert "is gone: upload the document again" in (found[3].error or "")


def test_a_page_that_kills_the_parser_takes_no_other_with_it(
    session: Session,
    dataset_id: UUID,
    submit: Submit,
    reader: Reader,
    parser: ConfinedParser,
) -> None:
    says = [f"echo {PARAGRAPH} {one}" for one in range(4)]
    says[1] = f"exits {os.EX_SOFTWARE}"
    ids = [
        one.document_id
        for one in submit({f"{number}.html": one.encode() for number, one in enumerate(says)})
    ]
    needs = replace(indexing_needs(), parser=parser, parse_together=parser.parse_together)

    index_documents(dataset_id, ids, needs)

    found = [reader.document(one) for one in ids]
    assert [one.indexing_status for one in found] == [
        DocumentStatus.WAITING if number == 1 else DocumentStatus.COMPLETED for number in range(4)
    ]
    assert (found[1].deaths, found[0].deaths) == (1, 0)
