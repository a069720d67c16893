"""One parsing child, seen from the worker: started, weighed and killed."""

import contextlib
import os
import signal
import socket
import subprocess
import sys

import psutil

from shared.errors import ServiceUnavailable
from worker.providers.parsing_connection import Connection

_EXIT_SECONDS = 10.0
_SENT_BYTES = 256 * 1024


class ParsingProcess:
    """A child that parses one file at a time; reserved first, started when it is needed.

    Whoever forgets it kills it: an exception from outside can come between any two
    instructions, so that nobody can promise to give it back.

    Attributes:
        connection: how to talk to it, once started.
        is_over: whether it takes no more files.
        parses: files it was given.
        rss_bytes_at_start: its resident memory before the first file.
    """

    connection: Connection

    def __init__(self) -> None:
        self.is_over = False
        self.parses = 0
        self.rss_bytes_at_start = 0
        self._owner_pid = os.getpid()
        self._process: subprocess.Popen[bytes] | None = None
        self._observed: psutil.Process | None = None
        self._sockets: tuple[socket.socket, ...] = ()

    @property
    def is_started(self) -> bool:
        """Whether there is a process."""
        return self._process is not None

    def start(self, parser: str, max_data_bytes: int) -> None:
        """Start it.

        Args:
            parser: ``module:Class`` of what it runs.
            max_data_bytes: beyond it its allocations fail.

        Raises:
            ServiceUnavailable: the system starts no process.
        """
        try:
            ours, theirs = socket.socketpair()
            # What is sent together must find room before the child reads the first of it.
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SENT_BYTES)
            lifeline, far_end = socket.socketpair()
            self._sockets = (ours, lifeline)
            with theirs, far_end:
                arguments = (parser, str(far_end.fileno()), str(max_data_bytes))
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "worker.providers.parsing_child", *arguments],
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    pass_fds=(far_end.fileno(),),
                )
        except OSError as error:
            raise ServiceUnavailable(f"no parser can be started: {error}") from error
        self.connection = Connection(ours)
        with contextlib.suppress(psutil.Error):
            self._observed = psutil.Process(self._process.pid)

    def rss_bytes(self) -> int:
        """Its resident memory; 0 when it is dead."""
        if self._observed is None:
            return 0
        try:
            rss: int = self._observed.memory_info().rss
        except psutil.Error:
            return 0
        return rss

    def epitaph(self) -> str:
        """How it ended, in the system's words."""
        if self._process is None:
            return "never started"
        try:
            code = self._process.wait(_EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            return "it closed its connection"
        if code >= 0:
            return f"exit code {code}"
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
        return f"signal {-code}"

    def kill(self) -> None:
        """End it, whatever it does; again is harmless."""
        self._let_go()
        if self._process is not None and self._owner_pid == os.getpid():
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_EXIT_SECONDS)

    def _let_go(self) -> None:
        self.is_over = True
        if self._owner_pid != os.getpid():
            return
        if self._process is not None:
            self._process.kill()
        for end in self._sockets:
            end.close()

    def abandon(self, null: int) -> None:
        """In a forked process: leave it to our parent, and keep none of its connections open.

        Args:
            null: a file descriptor of the null device.
        """
        self.is_over = True
        for end in self._sockets:
            if end.fileno() >= 0:
                # Not closed: under gevent that is a matter of the hub, which is the parent's.
                os.dup2(null, end.fileno(), inheritable=False)
        if self._process is not None:
            self._process.returncode = 0

    def __del__(self) -> None:
        # At the end of this process the sockets close by themselves, and gevent is gone.
        if not self.is_over and not sys.is_finalizing():
            # No wait for its end: this may run in any thread, and under gevent in the hub.
            self._let_go()
