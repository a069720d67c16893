"""Office files lose no text to the way their parser counts pages, and come in small blocks."""

import pytest

from tests.fixtures.office_files import PAGE_BREAK, docx, paragraph, xlsx
from worker.providers.kreuzberg import KreuzbergParser


@pytest.fixture(scope="module")
def parser():
    return KreuzbergParser()


def test_the_sheets_of_a_workbook_are_read(parser):
    book = xlsx({"Boats": [["name", "berth"], ["Tern", "4"]], "Crew": [["Ada"]]})
    text = "".join(block.text for block in parser.parse(book, "a.xlsx"))
    for word in ("Boats", "name", "berth", "Tern", "4", "Crew", "Ada"):
        assert word in text


def test_cells_that_are_merged_are_read_beside_other_pages(parser):
    merged = "<w:tc><w:tcPr><w:gridSpan w:val='2'/></w:tcPr>" + paragraph("wide") + "</w:tc>"
    single = "".join(f"<w:tc>{paragraph(cell)}</w:tc>" for cell in ("left", "right"))
    table = f"<w:tbl><w:tr>{merged}</w:tr><w:tr>{single}</w:tr></w:tbl>"
    content = docx(paragraph("first") + table + PAGE_BREAK + table + paragraph("last"))
    text = "".join(block.text for block in parser.parse(content, "a.docx"))
    assert [text.count(word) for word in ("first", "left", "right", "last")] == [1, 2, 2, 1]
    assert "wide" in text


def test_a_document_is_read_page_by_page_where_it_says_where_they_end(parser):
    two = docx(paragraph("first page") + PAGE_BREAK + paragraph("second page"))
    found = [(block.page, block.text) for block in parser.parse(two, "a.docx")]
    assert found == [(1, "first page"), (2, "second page")]


def test_a_document_that_says_nowhere_where_its_pages_end_is_not_all_of_page_one(parser):
    (block,) = parser.parse(docx(paragraph("the whole of it")), "a.docx")
    assert (block.page, block.text.strip()) == (None, "the whole of it")


@pytest.mark.parametrize("breaks", ["", PAGE_BREAK])
def test_a_large_document_comes_in_blocks_that_join_to_the_whole(parser, breaks):
    lines = [f"line {number} of the log of the lighthouse" for number in range(40_000)]
    content = docx(paragraph("begin") + breaks + "".join(map(paragraph, lines)))
    blocks = list(parser.parse(content, "a.docx"))
    assert len(blocks) > 2
    assert all(len(block.text) <= 512 * 1024 for block in blocks)
    # Between two pages stands what ends a paragraph, in none of them.
    text = "".join(block.text for block in blocks).removeprefix("begin").strip("\n")
    assert text.split("\n\n") == lines
