"""pdfium: the text of a PDF, page by page; what it takes does not grow with their number."""

from collections.abc import Iterator
from contextlib import closing

from pypdfium2 import PdfDocument

from worker.providers.parser import Block

#: The library keeps what it has read of a document until that is closed, 5 KB a page: after so
#: many it is opened anew, which takes less than it saves.
RANGE_PAGES = 500


def pages(content: bytes, range_pages: int = RANGE_PAGES) -> Iterator[Block]:
    """The text of each page, in order; a page without any is an empty one.

    Not for several threads at once: the library is not made for it.

    Args:
        content: the whole file.
        range_pages: how many pages are read before the file is opened anew.

    Raises:
        pypdfium2.PdfiumError: it needs a password, or it is damaged.
    """
    first, total = 0, 1
    while first < total:
        with PdfDocument(content) as document:
            total = len(document)
            for index in range(first, min(first + range_pages, total)):
                yield Block(_text(document, index), is_markdown=True, page=index + 1)
        first += range_pages


def _text(document: PdfDocument, index: int) -> str:
    with closing(document[index]) as page, closing(page.get_textpage()) as text_page:
        # Not the text within the page's borders, which the library reads in another way: lines
        # of a table come without an end, and Arabic from its end.
        return str(text_page.get_text_range())
