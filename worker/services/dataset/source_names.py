"""What a document of a URL is called: its place, and the ending of its format."""

from mimetypes import guess_type
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

_NAME_CHARACTERS = 300
_PLAIN = "text/plain"

#: How a file of this media type ends, so that it is read as what it is.
_ENDINGS = {
    "text/html": ".html",
    "application/xhtml+xml": ".xhtml",
    _PLAIN: ".txt",
    "text/markdown": ".md",
    "text/csv": ".csv",
    "text/tab-separated-values": ".tsv",
    "text/xml": ".xml",
    "application/xml": ".xml",
    "application/json": ".json",
    "application/pdf": ".pdf",
    "application/rtf": ".rtf",
    "application/epub+zip": ".epub",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": ".pptx",
}
#: What servers that know no better send as plain text.
_SENT_AS_PLAIN = frozenset({".md", ".markdown", ".mdx", ".csv", ".tsv", ".rst", ".log", ".jsonl"})


def source_name(url: str, content_type: str) -> str:
    """The host and path of a URL, with the ending that its media type asks for."""
    parts = urlsplit(url)
    path = unquote(parts.path, errors="replace").strip("/")
    name = "/".join(one for one in (parts.hostname or "", path) if one)[:_NAME_CHARACTERS]
    ending = PurePosixPath(path).suffix.lower()
    wanted = _ENDINGS.get(content_type)
    is_right = (
        wanted is None
        or ending == wanted
        or guess_type(f"x{ending}")[0] == content_type
        or (content_type == _PLAIN and ending in _SENT_AS_PLAIN)
    )
    return name if is_right else name + (wanted or "")
