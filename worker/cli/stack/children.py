"""Child processes that cannot outlive the process that started them.

On Linux every child asks the kernel for a signal when its parent dies
(``PR_SET_PDEATHSIG``). The kernel means the parent *thread*: a child started from
a thread gets the signal as soon as that thread ends. Start children from the main
thread.
"""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

POLL_SECONDS = 0.02

_PR_SET_PDEATHSIG = 1
# Loaded here: between fork and exec nothing may be imported or opened.
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True)
class Account:
    """The user a child runs as."""

    uid: int
    gid: int


def spawn(
    argv: Sequence[str],
    *,
    log: Path,
    death_signal: signal.Signals,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    account: Account | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a child in its own session, its output appended to ``log``.

    Args:
        argv: The command, never a shell line.
        log: The file that receives standard output and error.
        death_signal: What the child receives when this process dies (Linux).
        env: The whole environment; ``None`` inherits.
        cwd: The folder to start in, entered before the user changes.
        account: The user to become; ``None`` keeps ours.
        pass_fds: File descriptors the child keeps.

    Raises:
        OSError: The command cannot be executed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    # Private whatever the umask: logs quote statements, and some quote data.
    with open(log, "ab", opener=_private) as output:
        return subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=cwd,
            start_new_session=True,
            pass_fds=pass_fds,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            # CPython calls it after the change of user, which would clear the setting.
            preexec_fn=_dying_with_parent(death_signal),  # noqa: PLW1509 - the only hook there is
        )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _dying_with_parent(death_signal: signal.Signals) -> Callable[[], None] | None:
    if _LIBC is None:
        return None
    prctl, number, parent_pid = _LIBC.prctl, int(death_signal), os.getpid()

    def ask_kernel() -> None:
        prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
        # The parent may have died before the request: then no signal will ever come.
        if os.getppid() != parent_pid:
            os._exit(1)

    return ask_kernel


def await_exit(process: subprocess.Popen[bytes], timeout_seconds: float) -> bool:
    """Tell whether the process ended within the time."""
    try:
        process.wait(timeout_seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL whatever is left of the group the process leads, and reap the process."""
    # The pid of a reaped leader is given out again only when its group is empty:
    # a process that has it now is a stranger.
    if process.returncode is None or not _exists(process.pid):
        # macOS answers EPERM for a group of zombies.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _exists(pid: int) -> bool:
    try:
        os.getpgid(pid)
    except ProcessLookupError:
        return False
    return True


def eventually(condition: Callable[[], bool], timeout_seconds: float) -> bool:
    """Poll until the condition holds; tell whether it did in time."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def free_port() -> int:
    """Return a port of 127.0.0.1 nobody listens on; somebody may take it before the caller."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
