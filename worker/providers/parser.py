"""The parser protocol: formats that cannot be streamed become blocks of text."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of a document that can be split on its own.

    Attributes:
        text: the text.
        is_markdown: whether headings and lists in it guide the split.
        page: the page it begins on, from 1, where the format has pages.
    """

    text: str
    is_markdown: bool = False
    page: int | None = None


class Parser(Protocol):
    """Parses a whole file."""

    def parse(self, content: bytes, name: str) -> Iterator[Block]:
        """The document's text, in order.

        Args:
            content: the whole file; HTML, XML, JSON and YAML in UTF-8.
            name: the ending tells the format, the rest is for messages.

        Raises:
            UnreadableFile: (permanent) nothing can parse it.
        """
