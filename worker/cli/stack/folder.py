"""The folder a server keeps its state in, held by one process at a time."""

import contextlib
import fcntl
import os
import secrets
import signal
import sys
from pathlib import Path

from shared.errors import ConfigurationError, ServiceUnavailable
from worker.cli.stack.children import eventually

_STEP_SECONDS = 10.0


class StateFolder:
    """A folder with a lock, a password and a log.

    The lock is an ``flock`` of the owner process: the kernel drops it when the owner
    dies, whatever way, and children do not inherit it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.log = self.path / "server.log"
        self._lock_fd: int | None = None

    def acquire(self) -> None:
        """Create the folder and take its lock.

        Raises:
            ConfigurationError: The folder is in use or cannot be written.
        """
        if self._lock_fd is not None:
            return
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock_fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise ConfigurationError(
                f"Cannot write to {self.path} ({error.strerror}): choose another data folder."
            ) from error
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock_fd)
            raise ConfigurationError(
                f"Another stack runs on {self.path}: stop it or choose another data folder."
            ) from error
        self._lock_fd = lock_fd
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".previous.log"))

    def release(self) -> None:
        """Give the lock back."""
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def password(self) -> str:
        """Return the server's password, made up once and kept for later starts."""
        kept = self.path / "password"
        if not kept.exists():
            # Renamed into place: an interrupted start must not leave an empty password.
            write_private(self.path / "password.new", secrets.token_hex(24))
            (self.path / "password.new").replace(kept)
        return kept.read_text().strip()

    def log_size(self) -> int:
        """Return the log's length in bytes: where the next start begins to write."""
        return self.log.stat().st_size if self.log.exists() else 0

    def log_since(self, offset: int) -> str:
        """Return what the log gained after the offset."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(offset)
            return log.read().decode(errors="replace")

    def failure(self, what: str, *, since: int = 0) -> ServiceUnavailable:
        """Compose the error of a failed start, with the end of the log."""
        tail = " | ".join(self.log_since(since).split("\n")[-9:]).strip(" |")
        return ServiceUnavailable(f"{what}; its log {self.log} ends: {tail or '(empty)'}")


def write_private(path: Path, text: str) -> None:
    """Write a file only its owner can read, never readable by others in between."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text)


def stop_orphan(pid_file: Path, folder: Path, *steps: signal.Signals) -> None:
    """Stop the server a killed stack left running in ``folder``, and remove its pid file.

    The pid may be somebody else's by now: only a process whose working directory is
    the folder is signalled. Call it with the folder's lock held.

    Args:
        pid_file: The file whose first line is the server's pid.
        folder: The server's working directory.
        *steps: The signals to try, gentle first.

    Raises:
        ServiceUnavailable: The server survives every signal.
    """
    try:
        pid = int(pid_file.read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return
    # Without /proc there is no proof whose pid it is: the server's own check decides.
    if sys.platform != "linux":
        return
    for step in steps:
        if not _runs_in(pid, folder):
            break
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, step)
        eventually(lambda: not _runs_in(pid, folder), _STEP_SECONDS)
    if _runs_in(pid, folder):
        raise ServiceUnavailable(f"Process {pid} still serves {folder}: end it and start again.")
    pid_file.unlink(missing_ok=True)


def _runs_in(pid: int, folder: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").samefile(folder)
    except OSError:
        return False
