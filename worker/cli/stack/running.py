"""The whole stack on this machine: servers where none are named, worker, beat, Flower."""

import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import click

from shared.contract import QUEUES
from shared.errors import ServiceUnavailable
from shared.settings import Settings, load_settings
from shared.settings.base import STACK_ENV_FILE
from worker.cli.stack.children import eventually, free_port
from worker.cli.stack.folder import StateFolder, write_private
from worker.cli.stack.postgres import EmbeddedPostgres
from worker.cli.stack.reviving import Revivals
from worker.cli.stack.server import EmbeddedServer
from worker.cli.stack.supervisor import ChildSpec, Supervisor
from worker.cli.stack.valkey import EmbeddedValkey

_FLOWER_SECONDS = 30.0
_FLOWER_USER = "admin"
_BY_OAUTH = "as FLOWER_AUTH_PROVIDER has it"
_WORKER_GRACE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers to work with; ``variables`` point any process at them.

    ``embedded`` are those that were started for it, by name.
    """

    variables: dict[str, str] = field(default_factory=dict)
    embedded: dict[str, EmbeddedServer] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunningStack:
    """The processes that run, on their servers."""

    servers: Servers
    flower_url: str
    #: ``user:password``, or in words how to log in.
    flower_login: str
    log_folder: Path
    supervisor: Supervisor
    #: Start each process by its name. The tables that the worker works on must be there by then.
    starts: Mapping[str, Callable[[], None]]
    revivals: Revivals = field(default_factory=Revivals)

    def start_worker(self) -> None:
        """Start the worker."""
        self.starts["worker"]()

    def require_alive(self, wait_seconds: float | None = 0.0) -> None:
        """Watch the processes for a while; ``None`` means for ever. What dies starts again.

        Raises:
            ServiceUnavailable: a server ended, or a process again and again.
        """
        deadline = None if wait_seconds is None else time.monotonic() + wait_seconds
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            gone = self.supervisor.wait(left)
            if gone is None:
                return
            self._revive(gone)

    def _revive(self, name: str) -> None:
        # A server does not come back by itself: what it held may be damaged.
        pause = self.revivals.pause_seconds(name) if name in self.starts else None
        if pause is None:
            server = self.servers.embedded.get(name)
            log = server.log if server else self.log_folder / f"{name}.log"
            raise ServiceUnavailable(f"{name} ended by itself: its log is {log}")
        click.echo(f"{name} ended by itself: starting it again", err=True)
        time.sleep(pause)
        self.starts[name]()

    def await_flower(self) -> None:
        """Wait until Flower answers.

        Raises:
            ServiceUnavailable: it does not, or a process ended.
        """

        def ready() -> bool:
            self.require_alive()
            return _answers(self.flower_url)

        if not eventually(ready, _FLOWER_SECONDS):
            raise ServiceUnavailable(
                f"Flower does not answer on {self.flower_url}: see {self.log_folder}"
            )


def outside_settings() -> Settings:
    """The settings without those of a stack of ours, which may have died.

    Raises:
        ConfigurationError: a variable is wrong.
    """
    return load_settings((Path(".env"),))


@contextmanager
def servers(settings: Settings) -> Iterator[Servers]:
    """Start the servers nobody named.

    Raises:
        ConfigurationError: another stack uses the data folder.
        ServiceUnavailable: a server does not come up.
    """
    started = Servers()
    variables = started.variables
    with ExitStack() as stack:
        data = stack.enter_context(_data_folder(settings))
        if not settings.database.is_configured:
            postgres = stack.enter_context(EmbeddedPostgres(data / "postgres"))
            started.embedded["postgres"] = postgres
            variables["SQLALCHEMY_DATABASE_URI"] = postgres.uri
        named = settings.redis.is_configured or settings.celery.celery_broker_url.get_secret_value()
        if not named:
            valkey = stack.enter_context(EmbeddedValkey(data / "valkey"))
            started.embedded["valkey"] = valkey
            variables["REDIS_URL"] = valkey.url
            variables["CELERY_BROKER_URL"] = valkey.url.removesuffix("/0") + "/1"
        if "storage_url" not in settings.storage.model_fields_set:
            variables["STORAGE_URL"] = f"file://{data}/storage"
        if "presence_dir" not in settings.presence.model_fields_set:
            # Stacks beside each other call their workers the same.
            variables["PRESENCE_DIR"] = f"{data}/presence"
        yield started


@contextmanager
def processes(settings: Settings, servers: Servers) -> Iterator[RunningStack]:
    """Start Flower and beat on the servers, the worker when asked to; stops all at the end.

    Raises:
        ServiceUnavailable: one of them ends at once.
    """
    logs = settings.application.rag_worker_data_dir.absolute() / "logs"
    login = settings.flower.flower_basic_auth.get_secret_value()
    if not login and not settings.flower.flower_auth:
        login = f"{_FLOWER_USER}:{secrets.token_urlsafe(12)}"
    port = free_port()
    # By environment: a command line can be read by every user of the machine.
    environment = {**os.environ, **servers.variables}
    if login:
        environment["FLOWER_BASIC_AUTH"] = login
    with Supervisor() as supervisor:
        for server_name, server in servers.embedded.items():
            supervisor.watch(server_name, partial(getattr, server, "alive"))

        def start(name: str, *arguments: str, grace_seconds: float = 5.0) -> None:
            supervisor.start(
                ChildSpec(
                    name=name,
                    argv=[sys.executable, "-m", "celery", "-A", "worker.celery_app", *arguments],
                    log=logs / f"{name}.log",
                    env=environment,
                    grace_seconds=grace_seconds,
                )
            )

        def start_worker() -> None:
            concurrency = str(max(2, min(os.cpu_count() or 2, 4)))
            arguments = ("-Q", ",".join(QUEUES), "-c", concurrency, "-n", "rag-worker@%h")
            start("worker", "worker", *arguments, grace_seconds=_WORKER_GRACE_SECONDS)

        starts: dict[str, Callable[[], None]] = {
            "flower": partial(start, "flower", "flower", "--address=127.0.0.1", f"--port={port}"),
            "beat": partial(start, "beat", "beat"),
            "worker": start_worker,
        }
        starts["flower"]()
        starts["beat"]()
        url = f"http://127.0.0.1:{port}"
        try:
            yield RunningStack(servers, url, login or _BY_OAUTH, logs, supervisor, starts)
        finally:
            _tell_to_stop(supervisor, "flower", "beat")


def _tell_to_stop(supervisor: Supervisor, *names: str) -> None:
    """Let them end while the worker does: they need the broker, not each other."""
    for name, pid in supervisor.running.items():
        if name in names:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)


@contextmanager
def _data_folder(settings: Settings) -> Iterator[Path]:
    """The folder of all data, open to its owner alone, held by this stack."""
    folder = StateFolder(settings.application.rag_worker_data_dir)
    folder.acquire()
    try:
        # One made by hand may be open to all; what lies in it quotes documents.
        folder.path.chmod(0o700)
        if folder.path == STACK_ENV_FILE.parent.absolute():
            # A killed stack's: its servers are gone, and its addresses would win over .env's parts.
            STACK_ENV_FILE.unlink(missing_ok=True)
        yield folder.path
    finally:
        folder.release()


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=2):  # noqa: S310 - our own http:// address
            return True
    except HTTPError:
        return True  # it wants the password: it is there
    except (URLError, OSError):
        return False


@contextmanager
def announced(variables: dict[str, str]) -> Iterator[None]:
    """Let other terminals find the stack while it runs: their settings read this file."""
    STACK_ENV_FILE.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lines = [f'{name}="{value}"' for name, value in variables.items()]
    write_private(STACK_ENV_FILE, "\n".join(lines) + "\n")
    try:
        yield
    finally:
        STACK_ENV_FILE.unlink(missing_ok=True)
