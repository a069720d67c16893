"""A PostgreSQL cluster on disk: created whole or not at all, run by whoever may."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from shared.errors import ConfigurationError
from worker.cli.stack.children import await_exit, kill_group, spawn
from worker.cli.stack.folder import StateFolder, stop_orphan
from worker.cli.stack.pginstall import binaries_for, find_package, server_account

USER = "rag_worker"

_INITDB_SECONDS = 60.0
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "300",
    "shared_buffers": "128MB",
    "fsync": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # The launcher recognises two messages by their text.
    "lc_messages": "C",
}


class Cluster:
    """The cluster in a state folder whose lock is held.

    Raises:
        ConfigurationError: The binaries are missing or the cluster is somebody else's.
    """

    def __init__(self, folder: StateFolder) -> None:
        self._folder = folder
        self._path = folder.path / "cluster"
        self._account = server_account(self._path)
        self._binaries = binaries_for(self._account, find_package())

    def prepare(self) -> None:
        """Stop an orphaned server, and create the cluster the first time.

        Raises:
            ConfigurationError: ``initdb`` cannot be executed.
            ServiceUnavailable: ``initdb`` fails, or the orphan survives.
        """
        stop_orphan(
            self._path / "postmaster.pid",
            self._path,
            signal.SIGINT,
            signal.SIGQUIT,
            signal.SIGKILL,
        )
        if not self._path.exists():
            self._create()

    def launch(self, port: int) -> subprocess.Popen[bytes]:
        """Start the postmaster; it may still fail to come up.

        Raises:
            ConfigurationError: The binary cannot be executed.
        """
        settings = {**_SETTINGS, "port": str(port)}
        return self._spawn(
            [
                str(self._binaries / "postgres"),
                "-D",
                self._data_path(self._path),
                *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
            ],
            self._path,
        )

    def _create(self) -> None:
        # Renamed when whole: what an interrupted initdb leaves is never taken for a cluster.
        draft = self._path.with_suffix(".new")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        with tempfile.TemporaryFile() as password:
            password.write(self._folder.password().encode())
            password.seek(0)
            if self._account:
                os.chown(draft, self._account.uid, self._account.gid)
                os.fchown(password.fileno(), self._account.uid, self._account.gid)
            self._run_initdb(draft, password.fileno())
        draft.rename(self._path)

    def _run_initdb(self, draft: Path, password_fd: int) -> None:
        character_type = "C.UTF-8" if sys.platform == "linux" else "UTF-8"
        since = self._folder.log_size()
        process = self._spawn(
            [
                str(self._binaries / "initdb"),
                f"--pgdata={self._data_path(draft)}",
                f"--username={USER}",
                "--auth=scram-sha-256",
                # By descriptor: the server's user may not reach the file by its path.
                f"--pwfile=/dev/fd/{password_fd}",
                "--encoding=UTF8",
                "--locale=C",
                f"--lc-ctype={character_type}",
                "--no-instructions",
            ],
            draft,
            password_fd,
        )
        try:
            ended = await_exit(process, _INITDB_SECONDS)
        finally:
            kill_group(process)
        if not ended or process.returncode != 0:
            raise self._folder.failure(f"initdb failed in {draft}", since=since)

    def _spawn(self, argv: list[str], folder: Path, *pass_fds: int) -> subprocess.Popen[bytes]:
        try:
            return spawn(
                argv,
                log=self._folder.log,
                # Fast shutdown: PostgreSQL closes its files in order even for a killed owner.
                death_signal=signal.SIGINT,
                # The server needs none of our settings and none of our secrets.
                env={"PATH": os.defpath},
                cwd=folder,
                account=self._account,
                pass_fds=pass_fds,
            )
        except OSError as error:
            raise ConfigurationError(
                f"Cannot run {argv[0]} in {folder} ({error}): start as an ordinary user."
            ) from error

    def _data_path(self, folder: Path) -> str:
        # The link leads into the folder we entered as root, past parents (/root, a private
        # temporary folder) the unprivileged user may not cross. No folder's mode changes.
        return "/proc/self/cwd" if self._account and sys.platform == "linux" else str(folder)
