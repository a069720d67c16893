"""One Redis client for guards and live progress; never the place where truth lives."""

from typing import Any

from flask import Flask
from redis import Redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import Sentinel

from shared.settings import Settings


def init_app(app: Flask) -> None:
    """Put the client at ``app.extensions["redis"]``; opens no connection."""
    app.extensions["redis"] = connect(app.extensions["settings"])


def connect(settings: Settings) -> "Redis":
    """A client for the configured server, plain, over TLS, or through Sentinel."""
    url = settings.redis_url
    if url.startswith("sentinel://"):
        return _through_sentinel(settings, url)
    tls = settings.redis.tls_options if url.startswith("rediss://") else {}
    return Redis.from_url(
        url, max_connections=settings.redis.redis_max_connections, **_common(settings), **tls
    )


def _common(settings: Settings) -> dict[str, Any]:
    timeout_seconds = settings.redis.redis_socket_timeout_seconds
    return {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        "socket_keepalive": True,
        "health_check_interval": 30,
        "retry": Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), 2),
        "retry_on_error": [RedisConnectionError, RedisTimeoutError],
        "decode_responses": True,
    }


def _through_sentinel(settings: Settings, url: str) -> "Redis":
    group = settings.redis
    hosts = [part.rpartition("@")[2].split("/")[0] for part in url.split(";")]
    hosts = [host.removeprefix("sentinel://") for host in hosts]
    tls = {"ssl": True, **group.tls_options} if group.redis_use_ssl else {}
    sentinel: Any = Sentinel(  # type: ignore[no-untyped-call]
        [(host.rpartition(":")[0], int(host.rpartition(":")[2])) for host in hosts],
        sentinel_kwargs={
            "username": group.redis_sentinel_username or None,
            "password": group.redis_sentinel_password.get_secret_value() or None,
            "socket_timeout": group.redis_socket_timeout_seconds,
            **tls,
        },
    )
    primary: Redis = sentinel.master_for(
        group.redis_sentinel_service_name,
        username=group.redis_username or None,
        password=group.redis_password.get_secret_value() or None,
        db=group.redis_db,
        **_common(settings),
        **tls,
    )
    return primary
