import pytest

from shared.errors import UnreadableFile
from tests.fixtures.pdf_files import numbered, pdf_of, without_last_page, without_table
from worker.providers.kreuzberg import KreuzbergParser
from worker.providers.pdfium import pages


def read(content, **options):
    """Each page's number and lines."""
    return [(block.page, block.text.split("\r\n")) for block in pages(content, **options)]


@pytest.mark.parametrize("range_pages", [1, 2, 3, 6, 7, 8, 100])
def test_pages_come_once_and_in_order_wherever_the_file_is_opened_anew(range_pages):
    texts = [*numbered(3, lines=4), "", "章节三", *numbered(2)]
    assert read(pdf_of(texts), range_pages=range_pages) == [
        (number, text.split("\n")) for number, text in enumerate(texts, 1)
    ]


@pytest.mark.parametrize("count", [499, 500, 501, 1000, 1001])
def test_a_file_of_whole_ranges_ends_with_its_last_page(count):
    assert [block.page for block in pages(pdf_of(numbered(count)))] == list(range(1, count + 1))


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_page_that_is_turned_is_read_as_it_is_seen(degrees):
    texts = numbered(2, lines=3)
    assert read(pdf_of(texts, degrees=degrees)) == [
        (1, texts[0].split("\n")),
        (2, texts[1].split("\n")),
    ]


def test_text_beyond_the_borders_of_its_page_is_not_lost():
    cropped = pdf_of(["a line that is longer than its page"], entries="/CropBox[0 0 60 842]")
    assert read(cropped) == [(1, ["a line that is longer than its page"])]


@pytest.mark.parametrize("range_pages", [2, 100])
def test_a_file_whose_table_is_lost_is_read_by_its_objects(range_pages):
    whole = pdf_of(numbered(5))
    assert read(without_table(whole), range_pages=range_pages) == read(whole)


def test_a_file_without_pages_is_unreadable():
    with pytest.raises(UnreadableFile, match=r"a\.pdf is damaged"):
        list(KreuzbergParser().parse(pdf_of([]), "a.pdf"))


def test_a_page_that_cannot_be_read_makes_the_file_unreadable():
    content = without_last_page(pdf_of(numbered(3)))
    blocks = KreuzbergParser().parse(content, "a.pdf")
    assert [next(blocks).page, next(blocks).page] == [1, 2]
    with pytest.raises(UnreadableFile, match=r"a\.pdf is damaged"):
        next(blocks)


def test_a_reader_that_stops_early_may_begin_again():
    content = pdf_of(numbered(5))
    begun = pages(content)
    next(begun)
    begun.close()
    assert len(read(content)) == 5
