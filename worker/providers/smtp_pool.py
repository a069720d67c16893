"""Connections to a mail server, used again while they are young."""

import contextlib
import os
import smtplib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from shared.errors import MailDeferred, MailRefused, RateLimited

#: Servers close idle connections after minutes; a young one is rarely found closed.
_IDLE_SECONDS = 20.0
#: Some servers take no more than a hundred mails by one connection.
_MOST_MAILS = 90


@dataclass(eq=False)
class Lent:
    """A connection in one sender's hands."""

    connection: smtplib.SMTP
    opened_by: Callable[[], smtplib.SMTP]
    mails: int = 0
    returned_at: float = 0.0

    @property
    def is_used(self) -> bool:
        """Whether another mail went by it before."""
        return self.mails > 0

    def replace(self) -> smtplib.SMTP:
        """Open a new connection in its place, and return it."""
        self.connection.close()
        self.connection, self.mails = self.opened_by(), 0
        return self.connection


class ConnectionPool:
    """The connections of one process; a fork begins with none.

    Args:
        connect: opens one.
        most: as many at a time.
        wait_seconds: how long a sender waits for one.
    """

    def __init__(self, connect: Callable[[], smtplib.SMTP], most: int, wait_seconds: float) -> None:
        self._connect = connect
        self._most = most
        self._wait_seconds = wait_seconds
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._free: list[Lent] = []
        self._places = threading.BoundedSemaphore(self._most)

    @contextmanager
    def borrowed(self) -> Iterator[Lent]:
        """A connection for one mail; closed unless the mail was taken or refused in good order.

        Raises:
            RateLimited: (transient) all are in use for too long.
            MailDeferred: (transient) the server cannot be reached.
            MailRefused: (permanent) it refuses the login, or is not who it says.
        """
        if self._pid != os.getpid():
            self._begin()
        places = self._places
        if not places.acquire(timeout=self._wait_seconds):
            raise RateLimited("every connection to the mail server is in use")
        try:
            lent = self._young() or Lent(self._connect(), self._connect)
            try:
                yield lent
            except (MailDeferred, MailRefused):
                lent.mails += 1
                if self._is_reset(lent.connection):
                    self._give_back(lent)
                raise
            except BaseException:
                lent.connection.close()
                raise
            lent.mails += 1
            self._give_back(lent)
        finally:
            places.release()

    def close(self) -> None:
        """Close the connections that are not in use."""
        while self._free:
            _quit(self._free.pop())

    def _young(self) -> Lent | None:
        while self._free:
            lent = self._free.pop()
            if time.monotonic() - lent.returned_at < _IDLE_SECONDS:
                return lent
            lent.connection.close()
        return None

    def _is_reset(self, connection: smtplib.SMTP) -> bool:
        if connection.sock is None:
            return False
        try:
            is_reset = connection.rset()[0] == 250  # noqa: PLR2004 - SMTP's "done"
        except (OSError, smtplib.SMTPException):
            is_reset = False
        if not is_reset:
            connection.close()
        return is_reset

    def _give_back(self, lent: Lent) -> None:
        if lent.mails >= _MOST_MAILS:
            _quit(lent)
            return
        lent.returned_at = time.monotonic()
        self._free.append(lent)


def _quit(lent: Lent) -> None:
    with contextlib.suppress(OSError, smtplib.SMTPException):
        lent.connection.quit()
    lent.connection.close()
