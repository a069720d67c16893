"""Group commit: rows that arrive while a statement runs share the next one.

A lone caller's row leaves at once, so prefork pays nothing. Under gevent and
threads one round trip carries what all tasks finished during the last one.
"""

from collections import deque
from collections.abc import Mapping
from itertools import chain
from operator import itemgetter
from threading import Event, Lock
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.dialects.postgresql import Insert
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    NotSupportedError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

# More rows than a gevent worker's usual concurrency, in statements far below the
# gigabyte at which PostgreSQL refuses one for its size.
GROUP_ROWS = 100
GROUP_BYTES = 1_000_000

#: What the server says to SQL or data it will refuse again however often it is sent.
HOPELESS = (DataError, IntegrityError, NotSupportedError, ProgrammingError)


def can_succeed_later(error: Exception) -> bool:
    """Tell an outage or a full pool from a row that can never be stored."""
    return isinstance(error, PoolTimeout) or (
        isinstance(error, DBAPIError) and not isinstance(error, HOPELESS)
    )


class GroupWriter:
    """Run one statement for many rows, of as many callers.

    A group is stored whole or not at all. When one of its rows is refused, each is
    sent again alone and only the refused one's caller sees the error; when the
    database is away all callers see it at once, instead of waiting in line for
    one timeout each.

    Args:
        engine: Runs the statements, in autocommit and with ``paramstyle="format"``.
        statement: The upsert of one row, its key the first parameter.
    """

    def __init__(self, engine: Engine, statement: Insert) -> None:
        compiled: Any = statement.compile(dialect=engine.dialect)
        self._engine = engine
        self.statement = compiled.string
        self.columns = len(compiled.positiontup)
        self.parameters = itemgetter(*compiled.positiontup)
        self.start_afresh()

    def start_afresh(self) -> None:
        """Forget the other callers: in a forked child they do not exist."""
        self._waiting: deque[_Ticket] = deque()
        self._led = False
        # Guards the handing on of the lead, and is never held over a statement.
        self._handover = Lock()

    def store(self, row: Mapping[str, Any]) -> None:
        """Return once ``row``, keyed by column, is stored.

        Raises:
            sqlalchemy.exc.DBAPIError: The database is away, or refuses this row.
            sqlalchemy.exc.TimeoutError: No connection came free.
            ValueError: The driver cannot send this row.
        """
        ticket = _Ticket(self.parameters(row))
        try:
            self._enter(ticket)
            # Not a lock on the statement: callers whose rows are stored would have to
            # get it first, each behind the next statement of those who came later.
            ticket.called.wait()
            while not ticket.settled:
                self._store_group()
        finally:
            self._leave(ticket)
        if ticket.error is not None:
            raise ticket.error

    def _enter(self, ticket: "_Ticket") -> None:
        with self._handover:
            self._waiting.append(ticket)
            if not self._led:
                self._lead(ticket)

    def _leave(self, ticket: "_Ticket") -> None:
        with self._handover:
            # If its caller was killed, the next group passes the row over.
            ticket.settled = True
            if not ticket.leads:
                return
            while self._waiting and self._waiting[0].settled:
                self._waiting.popleft()
            self._led = False
            if self._waiting:
                self._lead(self._waiting[0])

    def _lead(self, ticket: "_Ticket") -> None:
        ticket.leads = self._led = True
        ticket.called.set()

    def _store_group(self) -> None:
        group: list[_Ticket] = []
        try:
            self._fill(group)
            self._settle(group)
        except BaseException:
            # This caller was killed while it led; the others' rows are still to be stored.
            self._waiting.extendleft(reversed(group))
            raise

    def _fill(self, group: "list[_Ticket]") -> None:
        size = 0
        while self._waiting and len(group) < GROUP_ROWS:
            ticket = self._waiting[0]
            size += ticket.size
            if group and size > GROUP_BYTES:
                return
            # Before it leaves the queue: a signal between the two must not lose it.
            if not ticket.settled:
                group.append(ticket)
            self._waiting.popleft()

    def _settle(self, group: "list[_Ticket]") -> None:
        try:
            self._write(group)
        except Exception as error:  # noqa: BLE001 - raised in each caller's own store
            if len(group) > 1 and not can_succeed_later(error):
                for ticket in group:
                    self._settle([ticket])
                return
            for ticket in group:
                ticket.error = error
        for ticket in group:
            ticket.settled = True
            ticket.called.set()

    def _write(self, group: "list[_Ticket]") -> None:
        # In order of key: two workers that store the same pair cannot deadlock.
        ordered = sorted(group, key=lambda ticket: str(ticket.values[0]))
        values = tuple(chain.from_iterable(ticket.values for ticket in ordered))
        # A string skips Core's compilation and type processing, half of the CPU time
        # of a store. Statements sent together are one transaction to PostgreSQL.
        with self._engine.connect() as connection:
            connection.exec_driver_sql(";".join([self.statement] * len(group)), values)


class _Ticket:
    """A row in the queue: settled once it is stored, refused or given up.

    Its caller is called when that has happened, or when it is to lead.
    """

    __slots__ = ("called", "error", "leads", "settled", "size", "values")

    def __init__(self, values: tuple[Any, ...]) -> None:
        self.values = values
        self.size = sum(len(value) for value in values if isinstance(value, (bytes, str)))
        self.called = Event()
        self.leads = False
        self.settled = False
        self.error: Exception | None = None
