"""What the embedded servers share: a folder, a port, a start, an end."""

import signal
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from shared.errors import ServiceUnavailable
from worker.cli.stack.children import (
    POLL_SECONDS,
    await_exit,
    eventually,
    free_port,
    kill_group,
)
from worker.cli.stack.folder import StateFolder

_READY_SECONDS = 60.0
_KILL_SECONDS = 5.0


class EmbeddedServer(ABC):
    """A server on 127.0.0.1 that lives as long as this process.

    Args:
        data_dir: The server's folder; a second start finds its data and password there.
    """

    #: What messages call it.
    _name: ClassVar[str]
    #: The log line that says clients are served.
    _ready: ClassVar[str]
    #: The log line that says another process has the port.
    _port_taken: ClassVar[str]
    #: Log lines of a start that is worth another try.
    _passing: ClassVar[tuple[str, ...]] = ()
    #: The signals of an orderly stop, and the seconds each may take.
    _stop_steps: ClassVar[tuple[tuple[signal.Signals, float], ...]]

    def __init__(self, data_dir: Path) -> None:
        self._folder = StateFolder(data_dir)
        self._process: subprocess.Popen[bytes] | None = None
        self._port: int | None = None

    @property
    def alive(self) -> bool:
        """Tell whether the server runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The server's pid, ``None`` while nothing runs."""
        return self._process.pid if self._process and self.alive else None

    @property
    def log(self) -> Path:
        """The server's log."""
        return self._folder.log

    def start(self) -> str:
        """Start the server.

        Call it from the main thread: the server stops when the calling thread ends.

        Returns:
            Its address, password included.

        Raises:
            ConfigurationError: The folder is in use, or the binaries cannot run.
            ServiceUnavailable: The server does not come up.
        """
        if self.alive:
            return self._address()
        self._folder.acquire()
        claimed = self._port
        try:
            self._prepare()
            self._launch_until_ready()
            self._greet()
        except BaseException:
            self._end((signal.SIGKILL, _KILL_SECONDS))
            # A failed restart keeps its claim: the next one comes back at the same address.
            if claimed is None:
                self._give_back()
            raise
        return self._address()

    def stop(self) -> None:
        """Stop the server in order, roughly if that takes too long; give the folder back."""
        self._end(*self._stop_steps)
        self._give_back()

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End the server as a fault would; ``restart`` brings it back at the same address.

        Args:
            how: SIGKILL is what the OOM killer sends; SIGQUIT makes PostgreSQL drop its
                connections and skip the checkpoint.
        """
        self._end((how, _KILL_SECONDS))

    def restart(self) -> str:
        """Start again on the same port, stopping first what still runs.

        Returns:
            The same address as before.

        Raises:
            ServiceUnavailable: The server does not come up, or its port is taken.
        """
        self._end(*self._stop_steps)
        return self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @abstractmethod
    def _prepare(self) -> None:
        """Make the folder ready for a launch."""

    @abstractmethod
    def _launch(self, port: int) -> subprocess.Popen[bytes]:
        """Start the process; it may still fail to come up."""

    @abstractmethod
    def _greet(self) -> None:
        """Log in once, and finish what needs a running server."""

    @abstractmethod
    def _address(self) -> str:
        """Compose the address of the started server."""

    def _claimed_port(self) -> int:
        if self._port is None:
            raise ServiceUnavailable(f"{self._name} in {self._folder.path} is not started.")
        return self._port

    def _launch_until_ready(self) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while not self._comes_up(self._port or free_port(), deadline):
            time.sleep(POLL_SECONDS)

    def _comes_up(self, port: int, deadline: float) -> bool:
        """Launch once; ``False`` means that another try may succeed."""
        since = self._folder.log_size()
        self._process = self._launch(port)
        # The log, not a login: until it speaks, the port may be a stranger's, and a login
        # would hand that stranger the password.
        eventually(
            lambda: not self.alive or self._ready in self._folder.log_since(since),
            deadline - time.monotonic(),
        )
        log = self._folder.log_since(since)
        if self.alive and self._ready in log:
            self._port = port
            return True
        passing = self._passing if self._port else (*self._passing, self._port_taken)
        again = any(line in log for line in passing) and time.monotonic() < deadline
        if self.alive or not again:
            raise self._folder.failure(
                f"{self._name} does not answer on 127.0.0.1:{port}", since=since
            )
        return False

    def _end(self, *steps: tuple[signal.Signals, float]) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for how, seconds in steps:
            process.send_signal(how)
            if await_exit(process, seconds):
                break
        kill_group(process)

    def _give_back(self) -> None:
        self._port = None
        self._folder.release()
