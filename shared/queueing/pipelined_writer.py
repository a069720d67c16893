"""A row is sent before its task is acknowledged, and confirmed while the next task runs.

For a process that runs one task at a time: nobody shares its statement, and
waiting for the answer is most of what a stored result costs it. What was sent is
carried out even if this process is killed the next moment; what the server
refused or never got is stored again the slow way, by the next task or, when there
is none, by a thread that looks after a while.
"""

import logging
import re
import select
import threading
import time
from collections.abc import Callable, Mapping
from contextvars import Context
from itertools import count
from typing import Any

import psycopg2
from psycopg2.extensions import POLL_OK, POLL_READ, connection

from shared.queueing.group_writer import GroupWriter, can_succeed_later

logger = logging.getLogger(__name__)

_NAME = "rag_worker_store_result"
#: When an answer that nobody came for is looked at, and how long one may take.
IDLE_SECONDS = 0.2
ANSWER_SECONDS = 30.0
#: Between two looks at a database that is away.
AGAIN_SECONDS = 2.0
#: Below the size of a socket's buffer a statement has left when it was given.
_BUFFERED_BYTES = 16_384


class PipelinedWriter:
    """Upserts rows with one statement in flight.

    Args:
        connect: Opens a connection in asynchronous mode.
        surely: The writer that waits; also knows the statement.
    """

    def __init__(self, connect: Callable[[], connection], surely: GroupWriter) -> None:
        self._connect = connect
        self._surely = surely
        self._execute = f"EXECUTE {_NAME} ({','.join(['%s'] * surely.columns)})"
        self._connection: connection | None = None
        self._cursor: Any = None
        self._in_flight: Mapping[str, Any] | None = None
        self._lock = threading.Lock()
        self._sent_at = 0.0
        self._sent = threading.Event()
        self._is_parked = False
        thread = threading.Thread(target=self._look_after, name="stored-results", daemon=True)
        # It outlives the task it is started in.
        Context().run(thread.start)

    def store(self, row: Mapping[str, Any]) -> None:
        """Return once ``row``, keyed by column, is on its way and the one before is stored.

        Raises:
            sqlalchemy.exc.DBAPIError: The database is away; nothing is forgotten.
        """
        with self._lock:
            self._settle()
            self._send(row)
        # Waking a thread for every row would cost as much as sending it.
        if self._is_parked:
            self._sent.set()

    def settle(self) -> None:
        """Return once the row in flight is stored.

        Raises:
            sqlalchemy.exc.DBAPIError: The database is away; nothing is forgotten.
        """
        with self._lock:
            self._settle()

    def _send(self, row: Mapping[str, Any]) -> None:
        values = self._surely.parameters(row)
        try:
            if self._connection is None:
                self._connection = self._connect()
                _await(self._connection)
                self._cursor = self._connection.cursor()
                self._cursor.execute(_prepare(self._surely.statement))
                _await(self._connection)
            self._cursor.execute(self._execute, values)
            if sum(len(value) for value in values if isinstance(value, bytes)) > _BUFFERED_BYTES:
                _await(self._connection, POLL_READ)
        except (psycopg2.Error, ValueError) as error:
            self._store_surely(row, error)
        else:
            self._in_flight = row
            self._sent_at = time.monotonic()

    def _settle(self) -> None:
        row = self._in_flight
        if row is None:
            return
        try:
            _await(self._connection)
        except psycopg2.Error as error:
            self._store_surely(row, error)
        self._in_flight = None

    def _store_surely(self, row: Mapping[str, Any], reason: Exception) -> None:
        logger.info("a result is stored again: %s", reason, extra={"action": "result.again"})
        lost, self._connection = self._connection, None
        if lost is not None:
            lost.close()
        try:
            self._surely.store(row)
        except Exception as error:
            if can_succeed_later(error) or row is not self._in_flight:
                raise
            # Its own task is gone; the next one's has nothing to do with it.
            logger.exception("a result cannot be stored", extra={"action": "result.refused"})

    def _look_after(self) -> None:
        while True:
            self._is_parked = True
            # Asked after it is parked: a row that leaves meanwhile is seen here or wakes it.
            if self._in_flight is None:
                self._sent.wait()
            self._is_parked = False
            self._sent.clear()
            seconds = IDLE_SECONDS
            while self._in_flight is not None:
                time.sleep(seconds)
                seconds = self._settle_if_idle()

    def _settle_if_idle(self) -> float:
        """Settle a row that no other came for; returns the seconds to the next look."""
        if time.monotonic() - self._sent_at < IDLE_SECONDS:
            return IDLE_SECONDS
        try:
            self.settle()
        except Exception as error:  # noqa: BLE001 - whatever it is, the row is kept
            logger.warning("a result waits: %s", error, extra={"action": "result.waits"})
            return AGAIN_SECONDS
        return IDLE_SECONDS


def _prepare(statement: str) -> str:
    # Parsing and planning anew is a third of what a row costs the server.
    numbers = count(1)
    return f"PREPARE {_NAME} AS {re.sub('%s', lambda _: f'${next(numbers)}', statement)}"


def _await(connected: connection | None, *enough: int) -> None:
    if connected is None:
        raise psycopg2.InterfaceError("the connection is closed")
    while (state := connected.poll()) not in {POLL_OK, *enough}:
        watched = [connected.fileno()]
        reading, writing = (watched, []) if state == POLL_READ else ([], watched)
        if not any(select.select(reading, writing, [], ANSWER_SECONDS)):
            raise psycopg2.OperationalError(f"no answer within {ANSWER_SECONDS} s")
