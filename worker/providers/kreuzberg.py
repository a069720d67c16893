"""kreuzberg: Office, HTML, EPUB, mail and more, in one Rust library; a PDF is pdfium's."""

import re
from collections.abc import Iterator
from pathlib import PurePath
from uuid import uuid4

import kreuzberg
from kreuzberg import ExtractionConfig, ExtractionResult, PageConfig
from kreuzberg.exceptions import (
    CacheError,
    ExtractionCancelledError,
    ExtractionTimeoutError,
    ImageProcessingError,
    KreuzbergError,
    MissingDependencyError,
    OCRError,
    ParsingError,
    PluginError,
    ValidationError,
)
from pypdfium2 import PdfiumError

from shared.errors import (
    ConfigurationError,
    EncryptedFile,
    LimitExceeded,
    RagWorkerError,
    ServiceUnavailable,
    UnreadableFile,
)
from worker.providers import pdfium
from worker.providers.mail_charsets import mail_as_utf8
from worker.providers.parser import Block

_OFFICE = "application/vnd.openxmlformats-officedocument."
_OPEN_DOCUMENT = "application/vnd.oasis.opendocument."
_HTML = "text/html"
_PDF = "application/pdf"
_MAIL = "message/rfc822"
#: By ending and not by content: an Office file's content says only "ZIP".
MIME_TYPES = {
    ".pdf": _PDF,
    ".docx": _OFFICE + "wordprocessingml.document",
    ".docm": "application/vnd.ms-word.document.macroEnabled.12",
    ".pptx": _OFFICE + "presentationml.presentation",
    ".xlsx": _OFFICE + "spreadsheetml.sheet",
    ".xlsm": "application/vnd.ms-excel.sheet.macroEnabled.12",
    ".doc": "application/msword",
    ".xls": "application/vnd.ms-excel",
    ".ppt": "application/vnd.ms-powerpoint",
    ".msg": "application/vnd.ms-outlook",
    ".odt": _OPEN_DOCUMENT + "text",
    ".ods": _OPEN_DOCUMENT + "spreadsheet",
    ".htm": _HTML,
    ".html": _HTML,
    ".xhtml": _HTML,
    ".epub": "application/epub+zip",
    ".eml": _MAIL,
    ".rtf": "application/rtf",
    ".xml": "application/xml",
    ".json": "application/json",
    ".yaml": "application/x-yaml",
    ".yml": "application/x-yaml",
}
_UNSUPPORTED = ("application/octet-stream", "image/", "audio/", "video/")

#: Our class for each of the library's; a test fails when the library adds one.
ERRORS: dict[type[Exception], type[RagWorkerError]] = {
    ParsingError: UnreadableFile,
    ValidationError: UnreadableFile,
    ImageProcessingError: UnreadableFile,
    OCRError: UnreadableFile,
    PluginError: UnreadableFile,
    KreuzbergError: UnreadableFile,
    ExtractionTimeoutError: LimitExceeded,
    MissingDependencyError: ConfigurationError,
    CacheError: ServiceUnavailable,
    ExtractionCancelledError: ServiceUnavailable,
    PdfiumError: UnreadableFile,
    Exception: UnreadableFile,  # a panic of the Rust core arrives as a plain RuntimeError
}
_ENCRYPTED = re.compile(r"password|encrypt", re.IGNORECASE)
#: The library's own limit, which cannot be set: 100 MB for the text of a DOCX.
_TOO_LARGE = re.compile(r"security limit", re.IGNORECASE)
_MAX_REASON_CHARACTERS = 300
_BLOCK_CHARACTERS = 512 * 1024
#: What pages and the whole may differ in: names of pictures, and what is set around a word.
_NO_LETTERS = re.compile(r"!\[[^\]]*\]\([^)]*\)|[\W_]+")
#: Pictures that HTML carries inside itself, as base64: many characters and not a word.
_INLINE_PICTURE = re.compile(r"\(data:[^\s)]*\)")


class KreuzbergParser:
    """Parses a whole file to Markdown, page by page where the format has pages."""

    def __init__(self) -> None:
        self._config = ExtractionConfig(  # type: ignore[call-arg]  # its stubs lack disable_ocr
            output_format="markdown",  # headings guide the split
            use_cache=False,  # its cache is a folder on disk that nobody would clean
            pages=PageConfig(extract_pages=True),
            disable_ocr=True,  # or the same mail would be another where Tesseract is installed
        )

    def parse(self, content: bytes, name: str) -> Iterator[Block]:
        """The document's text, in order.

        Raises:
            EncryptedFile: it needs a password.
            UnreadableFile: the format is not supported, or the file is damaged.
        """
        mime_type = MIME_TYPES.get(PurePath(name).suffix.lower()) or _detected(content, name)
        if mime_type == _PDF:
            yield from _pdf(content, name)
            return
        if mime_type == _HTML:
            yield from _cut(self._html(content, name))
            return
        if mime_type == _MAIL:
            content = mail_as_utf8(content, name)
        result = self._extract(content, mime_type, name)
        for page, text in _whole_pages(result) or [(None, result.content)]:
            yield from _cut(text, page)

    def _html(self, content: bytes, name: str) -> str:
        # The library puts title and meta tags before the text as front matter that ends in no
        # certain way (xberg-io/xberg#1171), but after it whatever stands first in the file.
        marker = uuid4().hex
        marked = self._extract(f"<p>{marker}</p>".encode() + content, _HTML, name)
        before, found, text = marked.content.partition(marker)
        return _INLINE_PICTURE.sub("()", text if found else before)

    def _extract(self, content: bytes, mime_type: str, name: str) -> ExtractionResult:
        try:
            return kreuzberg.extract_bytes_sync(content, mime_type, config=self._config)
        except Exception as error:
            raise translated(error, name) from error


def _whole_pages(result: ExtractionResult) -> list[tuple[int | None, str]]:
    """Pages by number; none where they lack text: a slide with a table, a sheet, merged cells.

    None either for a document that does not say where they end, all of which would be page 1.
    """
    if not result.pages or len(result.pages) == 1:
        return []
    pages = [(page["page_number"], page["content"]) for page in result.pages]
    is_whole = sum(_letters(text) for _, text in pages) >= _letters(result.content)
    return [*pages] if is_whole else []


def _letters(text: str) -> int:
    return sum(len(_NO_LETTERS.sub("", block.text)) for block in _cut(text))


def _cut(text: str, page: int | None = None) -> Iterator[Block]:
    """The text in blocks that are small enough for a worker to hold a few of them."""
    start = 0
    while len(text) - start > _BLOCK_CHARACTERS:
        end = text.rfind("\n", start, start + _BLOCK_CHARACTERS) + 1 or start + _BLOCK_CHARACTERS
        yield Block(text[start:end], is_markdown=True, page=page)
        start = end
    yield Block(text[start:], is_markdown=True, page=page)


def _pdf(content: bytes, name: str) -> Iterator[Block]:
    try:
        yield from pdfium.pages(content)
    except PdfiumError as error:
        raise translated(error, name) from error


def translated(error: Exception, name: str) -> RagWorkerError:
    """Our error for one of the library's; its first line is kept as the reason."""
    reason = " ".join(str(error).split())[:_MAX_REASON_CHARACTERS]
    if _ENCRYPTED.search(reason):
        return EncryptedFile(f"{name} is protected by a password: upload a copy without one")
    if _TOO_LARGE.search(reason):
        return LimitExceeded(f"{name} is larger than its parser can read: split it ({reason})")
    kind = next(ERRORS[kind] for kind in type(error).__mro__ if kind in ERRORS)
    return kind(f"{name} is damaged or not what its ending says: open and save it again ({reason})")


def _detected(content: bytes, name: str) -> str:
    try:
        mime_type = kreuzberg.detect_mime_type(content)
    except Exception as error:
        raise UnreadableFile(
            f"{name} is of no format that can be read: upload it as PDF, Office file or text"
        ) from error
    if mime_type.startswith(_UNSUPPORTED):
        raise UnreadableFile(
            f"{name} is {mime_type}, which holds no text: upload it as PDF, Office file or text"
        )
    return mime_type
