import inspect
from pathlib import Path

import kreuzberg
import pytest
from kreuzberg import exceptions, validate_mime_type
from pypdfium2 import PdfiumError

import worker.samples
from shared.errors import EncryptedFile, LimitExceeded, RagWorkerError, UnreadableFile
from worker.providers.kreuzberg import ERRORS, MIME_TYPES, KreuzbergParser, translated

LIBRARY_ERRORS = [
    kind
    for _, kind in inspect.getmembers(exceptions, inspect.isclass)
    if issubclass(kind, Exception)
]


@pytest.fixture(scope="module")
def parser():
    return KreuzbergParser()


def markdown(parser, html):
    return "".join(block.text for block in parser.parse(html.encode(), "a.html")).strip()


@pytest.mark.parametrize("kind", LIBRARY_ERRORS)
def test_every_exception_of_the_library_is_mapped(kind):
    assert kind in ERRORS
    ours = translated(kind("line one\nline two"), "a.pdf")
    assert isinstance(ours, RagWorkerError)
    assert "a.pdf" in str(ours)
    assert "line one line two" in str(ours)
    assert "\n" not in str(ours)


def test_a_panic_is_an_unreadable_file():
    assert type(translated(RuntimeError("panicked at x.rs"), "a.pdf")) is UnreadableFile


def test_a_password_is_told_apart():
    error = exceptions.ParsingError("PDF is password-protected")
    assert type(translated(error, "a.pdf")) is EncryptedFile


def test_the_librarys_own_limit_is_a_limit_and_no_damage():
    error = exceptions.ParsingError("Security limit exceeded: File 'word/document.xml' …")
    ours = translated(error, "a.docx")
    assert type(ours) is LimitExceeded
    assert "split it" in str(ours)


def test_the_cause_is_kept(parser):
    with pytest.raises(UnreadableFile) as raised:
        list(parser.parse(b"no document", "a.docx"))
    assert isinstance(raised.value.__cause__, exceptions.ParsingError)
    with pytest.raises(UnreadableFile) as raised:
        list(parser.parse(b"no PDF", "a.pdf"))
    assert isinstance(raised.value.__cause__, PdfiumError)


@pytest.mark.parametrize("mime_type", sorted(set(MIME_TYPES.values())))
def test_every_format_is_one_the_library_supports(mime_type):
    assert validate_mime_type(mime_type)


def test_pages_of_a_pdf_are_those_that_the_library_would_give(parser):
    (folder,) = worker.samples.__path__
    content = (Path(folder) / "documents" / "handbook.pdf").read_bytes()
    config = kreuzberg.ExtractionConfig(
        output_format="plain", use_cache=False, pages=kreuzberg.PageConfig(extract_pages=True)
    )
    others = kreuzberg.extract_bytes_sync(content, "application/pdf", config=config).pages

    found = [(one.page, one.text) for one in parser.parse(content, "handbook.pdf")]

    assert found == [(one["page_number"], one["content"]) for one in others]
    assert len(found) > 1


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n0000", bytes(range(256))])
def test_a_format_without_text_is_refused(parser, content):
    with pytest.raises(UnreadableFile):
        list(parser.parse(content, "unknown"))


@pytest.mark.parametrize(
    "head",
    [
        "",
        "<title>A: b</title>",
        "<title>A\n---\nB</title>",
        '<title>A</title><meta name="description" content="d\n---\ne">',
        '<meta name="description" content="d"><link rel="canonical" href="http://x/">',
        '<base href="http://x/"><meta property="og:title" content="o"><title></title>',
    ],
)
@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("<p>x</p>", "x"),
        ("<hr><h2>title: mine</h2><hr><p>x</p>", "---\n\n## title: mine\n\n---\n\nx"),
        ("<h1>Hi</h1><p>---</p><p>x</p>", "# Hi\n\n---\n\nx"),
        ("", ""),
    ],
)
def test_front_matter_goes_and_the_text_stays(parser, head, body, text):
    html = f"<!DOCTYPE html><html lang='en'><head>{head}</head><body>{body}</body></html>"
    assert markdown(parser, html) == text


def test_html_without_a_head_is_read_from_its_first_word(parser):
    assert markdown(parser, "<p>one</p><p>two</p>") == "one\n\ntwo"
    assert markdown(parser, '<?xml version="1.0"?><html><body><p>one</p></body></html>') == "one"


def test_pictures_inside_html_are_not_text(parser):
    html = '<p>before</p><img alt="a boat" src="data:image/png;base64,iVBORw0KGgo="><p>after</p>'
    text = markdown(parser, html)
    assert "a boat" in text
    assert "base64" not in text
