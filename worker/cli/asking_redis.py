"""How a probe asks the broker, and the Redis of guards where that is another server."""

from collections.abc import Callable
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

from shared.extensions.redis import connect_to
from shared.settings import Settings
from shared.settings.endpoints import Endpoint


def servers_to_ask(settings: Settings) -> list[tuple[str, Callable[[], None]]]:
    """What each is called, and a function that fails when it does not answer."""
    broker, guards = _as_redis(settings.broker), settings.guards
    found = [("the broker", _ask(broker, settings))]
    if _server(guards) != _server(broker):
        found.append(("Redis", _ask(guards, settings)))
    return found


def _ask(server: Endpoint, settings: Settings) -> Callable[[], None]:
    def ask() -> None:
        client = connect_to(server, settings)
        try:
            client.ping()
        finally:
            client.close()

    return ask


def _as_redis(broker: Endpoint) -> Endpoint:
    """The broker by the scheme that Redis' own client knows for sockets."""
    parts = urlsplit(broker.url)
    if parts.scheme != "redis+socket":
        return broker
    database = parse_qs(parts.query).get("virtual_host", ["0"])[0]
    return replace(broker, url=f"unix://{parts.netloc}{parts.path}?db={database}")


def _server(endpoint: Endpoint) -> list[str]:
    pieces = [urlsplit(piece) for piece in endpoint.url.split(";")]
    return [one.path if one.scheme == "unix" else one.netloc for one in pieces]
