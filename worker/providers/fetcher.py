"""What fetches a URL, as services see it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, Protocol


@dataclass(frozen=True, slots=True)
class Validators:
    """What a server said of its content last time, and of which URL."""

    url: str
    etag: str | None
    last_modified: str | None


@dataclass(frozen=True, slots=True)
class Fetched:
    """A URL's content.

    Attributes:
        file: at its beginning; gone when the fetch's block ends.
        size_bytes: unpacked.
        url: where its redirects ended.
        content_type: the media type, without parameters, in lower case.
    """

    file: BinaryIO
    size_bytes: int
    sha256: str
    url: str
    content_type: str
    etag: str | None
    last_modified: str | None


class Fetcher(Protocol):
    """Fetches what is public, within limits."""

    def fetch(
        self, url: str, seen: Validators | None, progress: Callable[[], None]
    ) -> AbstractContextManager[Fetched | None]:
        """Fetch a URL to a temporary file; ``None`` when it is as it was seen.

        Args:
            url: http or https.
            seen: from the last time; ``None`` fetches whatever is there.
            progress: called for each piece; may raise to end it.

        Raises:
            SourceGone: (permanent) the server says that there is nothing any more.
            SourceRefused: (permanent) it leads where nothing may be fetched from.
            SourceUnusable: (permanent) what is there cannot be used.
            LimitExceeded: (permanent) it is too large.
            ServiceUnavailable: (transient) the server cannot be reached, is too slow or busy.
        """
