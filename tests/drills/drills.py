"""The drills, a class each: what breaks, what mends it, and what an operator looks at."""

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from tests.drills.site import CannotBeDrilled, Site, started_site
from tests.fixtures.clocks import shifted_clock
from tests.fixtures.embedding_server import refusing
from worker.cli.stack.children import kill_group

_TEN_MINUTES = 600
#: Of a server that does not answer.
_SERVER_AWAY = ("rag_worker_relay_failures_total", "rag_worker_dependency")


class Drill:
    """One fault on a site of its own; this one breaks nothing.

    Attributes:
        title: what breaks.
        seconds: how long it stays broken.
        commands: what an operator runs while it does, beside ``health``.
        watched: the metrics worth a look, by the beginning of their names.
        database_disk: megabytes of the database's disk, where it shall be small.
        storage_disk: likewise of the stored files.
    """

    title: ClassVar[str]
    seconds: ClassVar[float] = 30.0
    commands: ClassVar[tuple[tuple[str, ...], ...]] = ()
    watched: ClassVar[tuple[str, ...]] = ()
    database_disk: ClassVar[int] = 0
    storage_disk: ClassVar[int] = 0

    @contextlib.contextmanager
    def site(self, folder: Path) -> Iterator[Site]:
        """Servers and workers, all well."""
        with started_site(
            folder, database_disk=self.database_disk, storage_disk=self.storage_disk
        ) as site:
            self.start_workers(site)
            yield site

    def start_workers(self, site: Site) -> None:
        """Two, of which one shows metrics."""
        site.start_worker("one", measured=True)
        site.start_worker("two")

    def begin(self, site: Site) -> None:
        """Break it."""

    def end(self, site: Site) -> None:
        """Mend it, as its operator would."""


class RedisDown(Drill):
    """Killed, and back without its data."""

    title = "Redis is down, and comes back empty"
    watched = _SERVER_AWAY

    def begin(self, site: Site) -> None:
        site.valkey.kill()

    def end(self, site: Site) -> None:
        site.valkey.restart(keep_data=False)


class DatabaseDown(Drill):
    """Killed without a checkpoint."""

    title = "The database is down"
    watched = _SERVER_AWAY

    def begin(self, site: Site) -> None:
        site.postgres.kill(signal.SIGQUIT)

    def end(self, site: Site) -> None:
        site.postgres.restart()


class ProviderDown(Drill):
    """Each request ends as 503."""

    title = "The embedding provider is down"
    commands = (("status", "--dataset", "drill"), ("documents", "stuck"))
    watched = (
        "rag_worker_task_retries_total",
        "rag_worker_outbox_unpublished",
        "rag_worker_documents",
    )

    def begin(self, site: Site) -> None:
        self._answer = site.provider.always
        site.provider.always = refusing(503, "overloaded")

    def end(self, site: Site) -> None:
        site.provider.always = self._answer


class StorageFull(Drill):
    """The disk of the files is full; the database has room."""

    title = "The disk of the stored files is full"
    storage_disk = 16

    def begin(self, site: Site) -> None:
        fill(site.storage)

    def end(self, site: Site) -> None:
        (site.storage / "ballast").unlink()


class DatabaseDiskFull(Drill):
    """PostgreSQL can write neither tables nor log, and ends itself."""

    title = "The database's disk is full"
    database_disk = 220
    watched = _SERVER_AWAY

    def begin(self, site: Site) -> None:
        fill(folder_of(site))

    def end(self, site: Site) -> None:
        (folder_of(site) / "ballast").unlink()
        if not site.postgres.alive:
            site.postgres.restart()


class ClockOff(Drill):
    """One worker is ten minutes ahead; the one with the right time dies with work in hand.

    Attributes:
        ahead_seconds: how wrong its clock is.
    """

    ahead_seconds: ClassVar[int] = _TEN_MINUTES

    title = "A worker's clock is ten minutes ahead, and the other worker is killed"
    commands = (("workers",),)
    watched = ("rag_worker_clock_offset_seconds",)

    def start_workers(self, site: Site) -> None:
        clock = shifted_clock(self.ahead_seconds)
        if clock is None:
            raise CannotBeDrilled("libfaketime is not installed")
        site.start_worker("one", measured=True, **clock)
        site.start_worker("two")

    def begin(self, site: Site) -> None:
        kill_group(site.workers.pop("two"))


class ClockBehind(ClockOff):
    """The other way round."""

    title = "A worker's clock is ten minutes behind, and the other worker is killed"
    ahead_seconds = -_TEN_MINUTES


def folder_of(site: Site) -> Path:
    """The file system of the database."""
    return site.folder / "postgres"


def fill(folder: Path) -> None:
    """Leave no byte free."""
    free = shutil.disk_usage(folder).free
    with (folder / "ballast").open("wb", buffering=0) as ballast:
        with contextlib.suppress(OSError):
            os.posix_fallocate(ballast.fileno(), 0, free)
        with contextlib.suppress(OSError):
            while True:
                ballast.write(b"\0" * 4096)


DRILLS: tuple[type[Drill], ...] = (
    RedisDown,
    DatabaseDown,
    ProviderDown,
    StorageFull,
    DatabaseDiskFull,
    ClockOff,
    ClockBehind,
)
