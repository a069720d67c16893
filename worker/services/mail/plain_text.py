"""HTML of callers as plain text, for the other part of the mail."""

from html.parser import HTMLParser

_BREAKS = {"p", "div", "br", "li", "tr", "h1", "h2", "h3", "h4", "ul", "ol", "table"}
_UNSEEN = {"style", "script", "head", "title"}


def is_html(text: str) -> bool:
    """Whether a text has a tag in it."""
    found = _Tags()
    found.feed(text)
    return found.number > 0


def plain_text(html: str) -> list[str]:
    """The lines a reader would see; a link's address stands behind its words."""
    seen = _Seen()
    seen.feed(html)
    seen.close()
    lines = "".join(seen.pieces).split("\n")
    return [line for line in (" ".join(one.split()) for one in lines) if line]


class _Tags(HTMLParser):
    number = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        self.number += 1


class _Seen(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self._unseen = 0
        self._links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _BREAKS:
            self.pieces.append("\n")
        self._unseen += tag in _UNSEEN
        if tag == "a":
            self._links.append(dict(attrs).get("href") or "")

    def handle_endtag(self, tag: str) -> None:
        if tag in _BREAKS:
            self.pieces.append("\n")
        self._unseen -= tag in _UNSEEN and self._unseen > 0
        if tag == "a" and self._links and (address := self._links.pop()):
            self.pieces.append(f" ({address})")

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.pieces.append(" ".join(data.split("\n")))
