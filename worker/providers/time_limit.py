"""A limit on the whole of an exchange: the socket is shut when it is over.

A timeout of a socket counts from byte to byte; a server that sends one now and
then keeps such a client for ever.
"""

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from socket import SHUT_RDWR
from typing import Any, Self

#: httpcore's names for the moments at which a connection has a new socket.
_CONNECTED = {"connection.connect_tcp.complete", "connection.start_tls.complete"}


class TimeLimit:
    """Cuts the newest connection after so many seconds; a context, for as long as that matters."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds
        self._stream: Any = None
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    @property
    def left_seconds(self) -> float:
        """What is left."""
        return max(self._ends - time.monotonic(), 0.0)

    @property
    def is_over(self) -> bool:
        """Whether nothing is left."""
        return time.monotonic() >= self._ends

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Take note of sockets; an httpx request's ``trace`` extension."""
        if event in _CONNECTED:
            self._stream = info["return_value"]
            if self.is_over:
                self._cut()

    def __enter__(self) -> Self:
        """Begin."""
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        """The exchange is over in time."""
        self._timer.cancel()

    def _cut(self) -> None:
        # Closed already, or about to be wrapped in TLS, whose handshake has a timeout of its own.
        with suppress(OSError, AttributeError):
            self._stream.get_extra_info("socket").shutdown(SHUT_RDWR)
