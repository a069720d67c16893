"""One Redis client for guards and live progress; never the place where truth lives."""

from typing import TYPE_CHECKING, Any

from redis import Redis
from redis.backoff import ConstantBackoff, NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry
from redis.sentinel import Sentinel

from shared.settings import Settings
from shared.settings.endpoints import Endpoint

if TYPE_CHECKING:
    # A probe needs the client and has no time for the framework.
    from flask import Flask

RETRY_SECONDS = 0.05


def init_app(app: "Flask") -> None:
    """Put the client at ``app.extensions["redis"]``; opens no connection."""
    app.extensions["redis"] = connect(app.extensions["settings"])


def connect(settings: Settings) -> "Redis":
    """A client for the configured server, plain, over TLS, or through Sentinel."""
    return connect_to(settings.guards, settings)


def connect_to(server: Endpoint, settings: Settings) -> "Redis":
    """A client for a server, with the settings' bounds on time and connections."""
    options = _options(settings)
    if server.login is not None:
        return _through_sentinel(server, options)
    return Redis.from_url(server.url, **options, **(server.tls or {}))


def _options(settings: Settings) -> dict[str, Any]:
    timeout_seconds = settings.redis.redis_socket_timeout_seconds
    return {
        "max_connections": settings.redis.redis_max_connections,
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        "socket_keepalive": True,
        "health_check_interval": 30,
        # A server that restarted gets a second try. One that hangs does not: guards and
        # progress are a courtesy, and a producer waits for them with a lock in its hand.
        "retry": Retry(ConstantBackoff(RETRY_SECONDS), 1, (RedisConnectionError,)),
        "decode_responses": True,
    }


def _through_sentinel(server: Endpoint, options: dict[str, Any]) -> "Redis":
    primary, login = server.primary, server.login
    tls = {"ssl": True, **server.tls} if server.tls is not None else {}
    sentinel: Any = Sentinel(  # type: ignore[no-untyped-call]
        primary.sentinels,
        sentinel_kwargs={
            "username": login and login.username,
            "password": login and login.password,
            "socket_timeout": options["socket_timeout"],
            "socket_connect_timeout": options["socket_connect_timeout"],
            # The next Sentinel is the second try.
            "retry": Retry(NoBackoff(), 0),
            **tls,
        },
    )
    client: Redis = sentinel.master_for(
        login and login.service_name,
        username=primary.username,
        password=primary.password,
        db=primary.database,
        **options,
        **tls,
    )
    return client
