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
from worker.providers.parser import Block

_OFFICE = "application/vnd.openxmlformats-officedocument."
_OPEN_DOCUMENT = "application/vnd.oasis.opendocument."
_HTML = "text/html"
_PDF = "application/pdf"
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
    ".eml": "message/rfc822",
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
_MAX_REASON_CHARACTERS = 300
#: Pictures that HTML carries inside itself, as base64: many characters and not a word.
_INLINE_PICTURE = re.compile(r"\(data:[^\s)]*\)")


class KreuzbergParser:
    """Parses a whole file to Markdown, page by page where the format has pages."""

    def __init__(self) -> None:
        self._config = ExtractionConfig(
            output_format="markdown",  # headings guide the split
            use_cache=False,  # its cache is a folder on disk that nobody would clean
            pages=PageConfig(extract_pages=True),
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
            yield Block(self._html(content, name), is_markdown=True)
            return
        result = self._extract(content, mime_type, name)
        if result.pages:
            for page in result.pages:
                yield Block(page["content"], is_markdown=True, page=page["page_number"])
        else:
            yield Block(result.content, is_markdown=True)

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
