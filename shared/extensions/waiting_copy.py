"""COPY where psycopg2 waits by a callback, as under gevent: it has none that lets others run.

libpq has: what it is asked never waits, and it says what to wait for. psycopg2 gives its
connection away for just this (``connection.pgconn_ptr``); the functions are looked up in the
library that psycopg2 itself is linked to, whichever that is.
"""

import ctypes
import select
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, cast

import psycopg2
from psycopg2 import errors, extensions

#: What is given to libpq at a time, which keeps it until the server takes it.
_PIECE_BYTES = 1 << 18

_BAD_CONNECTION = 1
_COPY_IN, _BAD_RESPONSE, _FATAL_ERROR = 4, 5, 7
#: Fields of an error.
_STATE, _MESSAGE, _DETAIL = map(ord, "CMD")

_NUMBER, _TEXT, _POINTER = ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p
_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    # What is returned, then the arguments.
    "PQclear": (None, _POINTER),
    "PQconsumeInput": (_NUMBER, _POINTER),
    "PQerrorMessage": (_TEXT, _POINTER),
    "PQflush": (_NUMBER, _POINTER),
    "PQgetResult": (_POINTER, _POINTER),
    "PQisBusy": (_NUMBER, _POINTER),
    "PQisnonblocking": (_NUMBER, _POINTER),
    "PQputCopyData": (_NUMBER, _POINTER, _TEXT, _NUMBER),
    "PQputCopyEnd": (_NUMBER, _POINTER, _TEXT),
    "PQresultErrorField": (_TEXT, _POINTER, _NUMBER),
    "PQresultStatus": (_NUMBER, _POINTER),
    "PQsendQuery": (_NUMBER, _POINTER, _TEXT),
    "PQsetnonblocking": (_NUMBER, _POINTER, _NUMBER),
    "PQstatus": (_NUMBER, _POINTER),
}


def is_possible() -> bool:
    """Whether libpq's functions are found."""
    return _libpq() is not None


def copy(cursor: Any, statement: str, copied: bytes) -> None:
    """Execute a COPY FROM STDIN, or statements with one among them; other greenlets run meanwhile.

    Whatever stops it in the middle, its connection is closed then.

    Args:
        cursor: psycopg2's.
        statement: what to execute.
        copied: all rows, in the statement's format.

    Raises:
        psycopg2.Error: as ``cursor.copy_expert``.
    """
    connection = cursor.connection
    if connection.status == extensions.STATUS_READY and not connection.autocommit:
        # Only what it executes itself makes psycopg2 begin a transaction.
        cursor.execute("SELECT 1")
    try:
        error = _Copy(connection).run(statement, copied)
    except BaseException:
        connection.close()
        raise
    if error is not None:
        raise error


class _Copy:
    """One COPY on its way through a connection."""

    def __init__(self, connection: Any) -> None:
        self._libpq = _libpq()
        self._raw = _POINTER(connection.pgconn_ptr)
        self._socket = connection.fileno()

    def run(self, statement: str, copied: bytes) -> psycopg2.Error | None:
        """Do it.

        Returns:
            What the server says against it; the connection can be used on.

        Raises:
            OperationalError: the connection cannot.
        """
        error, waited = None, self._libpq.PQisnonblocking(self._raw)
        self._libpq.PQsetnonblocking(self._raw, 1)
        self._demand(self._libpq.PQsendQuery(self._raw, statement.encode()))
        self._flush()
        for result in self._results():
            status = self._libpq.PQresultStatus(result)
            if status == _COPY_IN:
                self._send(copied)
            elif status in {_BAD_RESPONSE, _FATAL_ERROR}:
                error = self._error(result)
        if self._libpq.PQstatus(self._raw) == _BAD_CONNECTION:
            raise error or psycopg2.OperationalError(self._words())
        self._libpq.PQsetnonblocking(self._raw, waited)
        return error

    def _send(self, copied: bytes) -> None:
        for start in range(0, len(copied), _PIECE_BYTES):
            piece = copied[start : start + _PIECE_BYTES]
            self._put(self._libpq.PQputCopyData, piece, len(piece))
        self._put(self._libpq.PQputCopyEnd, None)

    def _put(self, put: Callable[..., int], *what: object) -> None:
        while not self._demand(put(self._raw, *what), least=0):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        while self._demand(self._libpq.PQflush(self._raw), least=0):
            # A server that has something to say may take nothing before it is read.
            if self._wait(select.POLLIN | select.POLLOUT) & select.POLLIN:
                self._demand(self._libpq.PQconsumeInput(self._raw))

    def _results(self) -> Iterator[ctypes.c_void_p]:
        while True:
            while self._libpq.PQisBusy(self._raw):
                self._wait(select.POLLIN)
                # What it says of a lost connection, it says by a result.
                self._libpq.PQconsumeInput(self._raw)
            result = self._libpq.PQgetResult(self._raw)
            if not result:
                return
            try:
                yield _POINTER(result)
            finally:
                self._libpq.PQclear(_POINTER(result))

    def _wait(self, events: int) -> int:
        # As a name of the module: gevent puts its own in the place.
        poll = select.poll()
        poll.register(self._socket, events)
        return poll.poll()[0][1]

    def _demand(self, answer: int, least: int = 1) -> int:
        if answer < least:
            raise psycopg2.OperationalError(self._words())
        return answer

    def _words(self) -> str:
        return _decoded(self._libpq.PQerrorMessage(self._raw))

    def _error(self, result: ctypes.c_void_p) -> psycopg2.Error:
        state, message, detail = (
            _decoded(self._libpq.PQresultErrorField(result, field))
            for field in (_STATE, _MESSAGE, _DETAIL)
        )
        try:
            kind = errors.lookup(state)
        except KeyError:
            kind = psycopg2.OperationalError
        words = "\n".join(filter(None, (message or self._words(), detail)))
        error: Any = kind(words)
        # Its only way to be told them; unpickling takes it.
        error.__setstate__({"pgcode": state or None, "pgerror": words})
        return cast("psycopg2.Error", error)


def _decoded(words: bytes | None) -> str:
    return (words or b"").decode("utf-8", "replace").strip()


@cache
def _libpq() -> Any:
    library = ctypes.CDLL(psycopg2._psycopg.__file__)  # noqa: SLF001 - it has no other name
    try:
        for name, (returned, *arguments) in _FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = returned, arguments
    except AttributeError:
        return None
    return library
