"""A TCP proxy whose network can be broken while connections run through it."""

import asyncio
import contextlib
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Self

from tests.fixtures.loops import serving

_PIECE_BYTES = 64 * 1024


class Mode(StrEnum):
    """What becomes of bytes on the way, in both directions."""

    PASS = "pass"
    DELAY = "delay"  #: each piece waits
    SWALLOW = "swallow"  #: connections are accepted, bytes vanish: a black hole


@dataclass(eq=False)
class _Connection:
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    #: What vanished cannot be made up for: such a connection does not survive the black hole.
    lost_bytes: bool = False

    def abort(self) -> None:
        for writer in self.writers:
            writer.transport.abort()


class Proxy:
    """Takes connections on ``port`` and hands what they say to 127.0.0.1:``target_port``.

    Runs in a thread of its own; every method is safe to call from the main thread.
    """

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self.mode = Mode.PASS
        self.delay_seconds = 0.0
        self._target_port = target_port
        self._connections: set[_Connection] = set()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._loop, self.port = self._stack.enter_context(serving(self._connected))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def cut(self) -> None:
        """End every connection at once; new ones are served."""
        self._loop.call_soon_threadsafe(self._abort_all)

    def slow_down(self, delay_seconds: float) -> None:
        """Let every piece wait from now on."""
        self.delay_seconds, self.mode = delay_seconds, Mode.DELAY

    def swallow(self) -> None:
        """Let every byte vanish from now on."""
        self.mode = Mode.SWALLOW

    def heal(self) -> None:
        """Pass everything on again; connections that lost bytes are cut."""
        self.mode = Mode.PASS
        self._loop.call_soon_threadsafe(self._abort_incomplete)

    def _abort_all(self) -> None:
        for connection in list(self._connections):
            connection.abort()

    def _abort_incomplete(self) -> None:
        for connection in list(self._connections):
            if connection.lost_bytes:
                connection.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection([writer])
        self._connections.add(connection)
        try:
            inner = await asyncio.open_connection("127.0.0.1", self._target_port)
            connection.writers.append(inner[1])
            await asyncio.gather(
                self._copy(connection, reader, inner[1]),
                self._copy(connection, inner[0], writer),
            )
        finally:
            connection.abort()
            self._connections.discard(connection)

    async def _copy(
        self, connection: _Connection, source: asyncio.StreamReader, sink: asyncio.StreamWriter
    ) -> None:
        while piece := await source.read(_PIECE_BYTES):
            if self.mode is Mode.DELAY:
                await asyncio.sleep(self.delay_seconds)
            # Asked again: the hole may have opened while the piece waited.
            if self.mode is Mode.SWALLOW:
                connection.lost_bytes = True
                continue
            sink.write(piece)
            await sink.drain()
        if connection.lost_bytes and self.mode is Mode.SWALLOW:
            return  # an end of the connection does not get through a black hole either
        sink.close()
