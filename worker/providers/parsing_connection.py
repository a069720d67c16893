"""The worker's end of the socket to a parsing child; no wait on it is a deaf one."""

import contextlib
import socket
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

from worker.providers.parsing_frames import LENGTHS, SMALL_BYTES, beginning

#: How often a wait looks up: for limits, and for exceptions sent to this thread.
TICK_SECONDS = 0.03
_CHUNK_BYTES = 64 * 1024

#: Called again and again during a wait; what it raises ends the wait.
Check = Callable[[], None]


class ChildEnded(Exception):
    """The child closed the connection."""


class Frame(NamedTuple):
    """A frame from the child."""

    header: dict[str, Any]
    payload: bytearray


class Connection:
    """Frames over a socket, which gevent makes wait in its own way."""

    def __init__(self, ours: socket.socket) -> None:
        self._socket = ours
        self._socket.settimeout(TICK_SECONDS)
        self._received = bytearray()

    def send(self, kind: str, payload: bytes, check: Check, **header: Any) -> None:
        """Send a frame.

        Raises:
            ChildEnded: nobody is there to receive it.
        """
        start = beginning(kind, len(payload), **header)
        if len(payload) <= SMALL_BYTES:
            self._send(start + payload, check)
        else:
            self._send(start, check)
            self._send(payload, check)

    def _send(self, data: bytes, check: Check) -> None:
        left = memoryview(data)
        while left:
            try:
                left = left[self._socket.send(left) :]
            except TimeoutError:
                check()
            except OSError as error:
                raise ChildEnded from error

    def receive(self, check: Check) -> Frame:
        """Wait for a whole frame.

        Raises:
            ChildEnded: there will be none.
        """
        header_bytes, payload_bytes = LENGTHS.unpack(self._take(LENGTHS.size, check))
        header = orjson.loads(self._take(header_bytes, check))
        return Frame(header, self._take(payload_bytes, check))

    def _take(self, size: int, check: Check) -> bytearray:
        while (missing := size - len(self._received)) > 0:
            check()
            # To the end of a large part and no further: it then needs no copy.
            wanted = _CHUNK_BYTES if size < _CHUNK_BYTES else min(missing, _CHUNK_BYTES)
            with contextlib.suppress(TimeoutError):
                self._received += self._chunk(wanted)
        if len(self._received) == size:
            taken, self._received = self._received, bytearray()
        else:
            taken = self._received[:size]
            del self._received[:size]
        return taken

    def _chunk(self, size: int) -> bytes:
        try:
            chunk = self._socket.recv(size)
        except (TimeoutError, BlockingIOError):
            raise
        except OSError as error:
            raise ChildEnded from error
        if not chunk:
            raise ChildEnded
        return chunk

    def says_more(self, patience_seconds: float) -> bool:
        """Tell whether something arrives within the time; an end counts, and comes again."""
        if self._received:
            return True
        self._socket.settimeout(patience_seconds)
        try:
            self._received += self._chunk(_CHUNK_BYTES)
        except (TimeoutError, BlockingIOError):
            return False
        except ChildEnded:
            return True
        finally:
            self._socket.settimeout(TICK_SECONDS)
        return True
