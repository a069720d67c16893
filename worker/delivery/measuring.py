"""Asks the servers for figures when Prometheus asks, and answers whatever they do."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from celery import Celery
from kombu import Connection as BrokerConnection
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import NullPool, create_engine
from sqlalchemy.exc import DBAPIError

from shared.contract import QUEUES
from shared.queueing.engine import prepare_mysql
from shared.settings import Settings
from shared.settings.database import DatabaseSettings
from worker.delivery.figures import (
    DATABASE_READINGS,
    FIGURES,
    Figure,
    Sample,
    Scope,
    broker_samples,
)
from worker.delivery.nodes import Patience

logger = logging.getLogger(__name__)

#: A scrape waits no longer for all servers together.
_PATIENCE_SECONDS = 1.0
#: Figures this old are good enough.
_FRESH_SECONDS = 3.0
#: Or as old as so many times what they cost: every worker measures.
_REST = 20
_LONGEST_REST_SECONDS = 30.0
#: Before a server that does not answer is asked again.
_RECOVERY_SECONDS = 1.0
_STATEMENT_SECONDS = 1.0
#: The least that libpq takes.
_CONNECT_SECONDS = 2

DEPENDENCY_UP = Figure(
    "rag_worker_dependency_up", "Whether it answered when it was last asked.", ("dependency",)
)


class Asked:
    """One server, asked in a thread of its own when its last answer is old.

    Args:
        name: what people call it.
        ask: brings its figures, or raises.
    """

    def __init__(self, name: str, ask: Callable[[], list[Sample]]) -> None:
        self.name = name
        self._ask = ask
        self._samples: list[Sample] | None = None
        self._is_up: bool | None = None
        self._good_until = 0.0
        self._answered = threading.Event()
        self._answered.set()
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Ask, unless the last answer is still good or still on its way."""
        with self._lock:
            if not self._answered.is_set() or time.monotonic() < self._good_until:
                return
            self._answered.clear()
        threading.Thread(target=self._run, name=f"measuring {self.name}", daemon=True).start()

    def samples(self, seconds: float) -> list[Sample] | None:
        """Its figures; ``None`` when it does not answer within the time."""
        return self._samples if self._answered.wait(max(seconds, 0.0)) else None

    def _run(self) -> None:
        began = time.monotonic()
        try:
            self._samples = self._ask()
        except Exception as error:  # noqa: BLE001 - whatever it is, the rest is served
            self._samples = None
            self._good_until = time.monotonic() + _RECOVERY_SECONDS
            if self._is_up is not False:
                self._is_up = False
                logger.warning(
                    "no figures of the %s: %s", self.name, error, extra={"action": "metrics.away"}
                )
        else:
            self._is_up, ended = True, time.monotonic()
            rest = min(_REST * (ended - began), _LONGEST_REST_SECONDS)
            self._good_until = ended + max(rest, _FRESH_SECONDS)
        finally:
            self._answered.set()


class Measurement(Collector):
    """The figures of all servers; one that is away costs its own, and says so.

    Args:
        database: the database's settings.
        connect: makes a connection to the broker.
        scope: what is looked at.
    """

    def __init__(
        self, database: DatabaseSettings, connect: Callable[[], BrokerConnection], scope: Scope
    ) -> None:
        self._scope = scope
        self._connect = connect
        self._connection: BrokerConnection | None = None
        # Of its own: tasks may have taken all connections of the pool, and a scrape cannot wait.
        self._engine = create_engine(
            database.url,
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            connect_args=database.impatient(_CONNECT_SECONDS, _STATEMENT_SECONDS),
        )
        if database.is_mysql:
            prepare_mysql(self._engine)
        self._servers = (Asked("database", self._ask_database), Asked("broker", self._ask_broker))

    @classmethod
    def of(cls, settings: Settings, celery: Celery) -> "Measurement":
        """What an application's metrics need."""
        silent_seconds = Patience.of(settings).silent_seconds
        tenants = settings.metrics.metrics_tenants_max
        scope = Scope(QUEUES, celery.conf.outbox_bounds, silent_seconds, tenants)
        return cls(settings.database, celery.connection_for_write, scope)

    def describe(self) -> list[Metric]:
        """The families, without samples."""
        return [one.family() for one in (DEPENDENCY_UP, *FIGURES)]

    def collect(self) -> Iterator[Metric]:
        """The figures that there are within a second."""
        until = time.monotonic() + _PATIENCE_SECONDS
        for server in self._servers:
            server.begin()
        up = DEPENDENCY_UP.family()
        samples: list[Sample] = []
        for server in self._servers:
            found = server.samples(until - time.monotonic())
            up.add_metric([server.name], found is not None)
            samples += found or []
        yield up
        yield from _families(samples)

    def _ask_database(self) -> list[Sample]:
        samples: list[Sample] = []
        with self._engine.connect() as database:
            for reading in DATABASE_READINGS:
                try:
                    samples += list(reading(database, self._scope))
                except DBAPIError as error:
                    if error.connection_invalidated:
                        raise
                    # Too slow, or of a newer version than the tables: the others may be there.
                    logger.warning("%s", error, extra={"action": "metrics.not_measured"})
        return samples

    def _ask_broker(self) -> list[Sample]:
        try:
            if self._connection is None:
                self._connection = self._connect()
            # Left alone, kombu tries for as long as its connection timeout is.
            connection = self._connection.ensure_connection(max_retries=1, interval_start=0)
            return broker_samples(connection, self._scope)
        except BaseException:
            failed, self._connection = self._connection, None
            if failed is not None:
                failed.release()
            raise


def _families(samples: Sequence[Sample]) -> Iterator[GaugeMetricFamily]:
    families = {figure: figure.family() for figure in FIGURES}
    for figure, labels, value in samples:
        families[figure].add_metric(labels, value)
    yield from (family for family in families.values() if family.samples)
