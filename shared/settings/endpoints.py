"""Redis-protocol servers by URL: one, over TLS, by socket, or the primary that Sentinels know."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit, urlunsplit

SCHEMES = ("redis", "rediss", "unix", "sentinel")
SENTINEL_PORT = 26379


@dataclass(frozen=True, slots=True)
class SentinelLogin:
    """What the Sentinels call the primary, and how to log in to them."""

    service_name: str
    username: str | None = None
    password: str | None = None


@dataclass(frozen=True, slots=True)
class Primary:
    """The primary behind Sentinels, and how to log in to it."""

    sentinels: tuple[tuple[str, int], ...]
    username: str | None
    password: str | None
    database: int


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One server as every client of it needs it.

    Attributes:
        url: Password included: never log it.
        tls: redis-py's TLS arguments; ``None`` for a connection in the clear.
        login: Of the Sentinels, when the URL names some.
    """

    url: str
    tls: Mapping[str, str] | None = None
    login: SentinelLogin | None = None

    @property
    def primary(self) -> Primary:
        """What a ``sentinel://…;sentinel://…`` URL says."""
        pieces = [urlsplit(piece) for piece in self.url.split(";")]
        first = pieces[0]
        return Primary(
            sentinels=tuple((one.hostname or "", one.port or SENTINEL_PORT) for one in pieces),
            username=unquote(first.username or "") or None,
            password=unquote(first.password or "") or None,
            database=database_of(pieces[0].geturl()),
        )


def scheme_of(url: str) -> str:
    """What stands before ``://``."""
    return url.partition("://")[0]


def database_of(url: str) -> int:
    """The number of the database a URL names; 0 when it names none."""
    parts = urlsplit(url.partition(";")[0])
    named = parse_qs(parts.query).get("db", [""])[0]
    if not named and parts.scheme != "unix":
        named = parts.path.strip("/")
    return int(named) if named.isdecimal() else 0


def next_database(url: str) -> str:
    """The same server's next database, as a URL Celery understands."""
    database = database_of(url) + 1
    return ";".join(_with_database(piece, database) for piece in url.split(";"))


def _with_database(url: str, database: int) -> str:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        # kombu has its own scheme for sockets.
        return f"redis+socket://{parts.netloc}{parts.path}?virtual_host={database}"
    query = re.sub(r"(^|&)db=[^&]*", "", parts.query).lstrip("&")
    return urlunsplit(parts._replace(path=f"/{database}", query=query))


def masked(text: str) -> str:
    """A URL without its login and its query; any other text as it is."""
    # Up to the last @: a password that holds one unquoted is hidden whole.
    without_login = re.sub(r"(?<=://).*@", "********@", text)
    if "://" not in text:
        return text
    return re.sub(r"\?.*", "?********", without_login)
