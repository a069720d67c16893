"""Waits until a message may have been written, and for whoever else has news."""

import os
import select
from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from shared.queueing.publishing import CHANNEL

#: Between two looks at a database that tells nobody of messages.
SHORTEST_SECONDS = 0.2
LONGEST_SECONDS = 1.0
_GROWTH = 1.1


class Bell:
    """Rung from any thread, heard by the one that waits."""

    def __init__(self) -> None:
        self._out, self._in = os.pipe()
        for end in (self._out, self._in):
            os.set_blocking(end, False)

    def fileno(self) -> int:
        """What to wait on."""
        return self._out

    def ring(self) -> None:
        """Wake the waiter; costs nothing worth counting."""
        try:
            os.write(self._in, b"x")
        except BlockingIOError:
            return  # it has plenty to wake up from

    def silence(self) -> None:
        """Forget that it was rung."""
        try:
            while os.read(self._out, 4096):
                pass
        except BlockingIOError:
            return

    def __del__(self) -> None:
        # Not earlier: a thread of the pool that rings late must not hit somebody else's file.
        for end in (self._out, self._in):
            os.close(end)


class Listening:
    """A connection that hears of messages written by anybody.

    Args:
        engine: the database.

    Raises:
        SQLAlchemyError: the database does not answer.
    """

    def __init__(self, engine: Engine) -> None:
        # Out of the pool for good: it must not be handed to anybody with LISTEN on.
        self._held = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        self._held.detach()
        self._held.execute(text(f"LISTEN {CHANNEL}"))
        # The record that knows the driver's own by name stayed with the pool.
        self._driver: Any = self._held.connection.dbapi_connection

    def wait(self, bell: Bell, seconds: float) -> bool:
        """Wait for a message, the bell or the time.

        Returns:
            Whether it was the bell.

        Raises:
            psycopg2.Error: the connection is lost.
        """
        # Not select(), which knows no descriptor above 1023.
        waiting = select.poll()
        waiting.register(bell, select.POLLIN)
        waiting.register(self._driver, select.POLLIN)
        ready = {descriptor for descriptor, _ in waiting.poll(seconds * 1000)}
        if self._driver.fileno() in ready:
            self._driver.poll()
            self._driver.notifies.clear()
        return bell.fileno() in ready

    def close(self) -> None:
        """Close the connection."""
        try:
            self._held.close()
        except SQLAlchemyError:
            return


class Polling:
    """For a database that tells nobody: the wait is short, and longer the longer nothing came.

    A producer publishes its messages itself after its commit: this is for what it could not.

    Args:
        is_busy: whether the last look found messages.
    """

    def __init__(self, is_busy: Callable[[], bool]) -> None:
        self._is_busy = is_busy
        #: The longest time that the next wait takes, before it has grown.
        self.seconds = SHORTEST_SECONDS

    def wait(self, bell: Bell, seconds: float) -> bool:
        """Wait for the bell or the time, which may be shorter than asked for.

        Returns:
            Whether it was the bell.
        """
        grown = min(self.seconds * _GROWTH, LONGEST_SECONDS)
        self.seconds = SHORTEST_SECONDS if self._is_busy() else grown
        waiting = select.poll()
        waiting.register(bell, select.POLLIN)
        rung = bool(waiting.poll(min(seconds, self.seconds) * 1000))
        if rung:
            self.seconds = SHORTEST_SECONDS
        return rung

    def close(self) -> None:
        """There is nothing to close."""
