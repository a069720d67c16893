"""Real servers with a breakable network before them."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg2
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from sqlalchemy import URL, Engine, NullPool, create_engine, make_url
from sqlalchemy.exc import DBAPIError

from tests.chaos.proxy import Proxy
from worker.cli.stack.postgres import EmbeddedPostgres
from worker.cli.stack.valkey import EmbeddedValkey

#: What a client meets while a server is away: ask again later.
AWAY = (DBAPIError, psycopg2.Error, RedisError, OSError)


@dataclass(frozen=True, slots=True)
class Servers:
    """PostgreSQL and Valkey, each directly and through its proxy."""

    postgres: EmbeddedPostgres
    valkey: EmbeddedValkey
    database_proxy: Proxy
    broker_proxy: Proxy

    def database_url(self, database: str, *, proxied: bool) -> URL:
        """A database's URL."""
        url = make_url(self.postgres.uri).set(database=database)
        return url.set(port=self.database_proxy.port) if proxied else url

    def redis_url(self, number: int, *, proxied: bool) -> str:
        """The URL of one of Valkey's databases."""
        url = make_url(self.valkey.url).set(database=str(number))
        if proxied:
            url = url.set(port=self.broker_proxy.port)
        return url.render_as_string(hide_password=False)

    def engine(self, database: str) -> Engine:
        """The checker's own way into a database."""
        return create_engine(self.database_url(database, proxied=False), poolclass=NullPool)

    def redis(self, number: int = 0) -> "Redis":
        """The checker's own way into Valkey."""
        url = self.redis_url(number, proxied=False)
        return Redis.from_url(url, socket_timeout=5, retry=Retry(NoBackoff(), 0))


@contextlib.contextmanager
def started_servers(folder: Path) -> Iterator[Servers]:
    """Start the servers and their proxies; call it from the main thread."""
    with contextlib.ExitStack() as stack:
        postgres = stack.enter_context(EmbeddedPostgres(folder / "postgres"))
        valkey = stack.enter_context(EmbeddedValkey(folder / "valkey"))
        ports = [make_url(address).port for address in (postgres.uri, valkey.url)]
        database_proxy, broker_proxy = (
            stack.enter_context(Proxy(port)) for port in ports if port is not None
        )
        yield Servers(postgres, valkey, database_proxy, broker_proxy)
