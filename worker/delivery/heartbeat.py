"""Keeps the leases of this process alive, and fences the process when it cannot.

One thread a process, one statement a table and beat. A lease that could not be
renewed for as long as it lasts belongs to somebody else by now: its work is
stopped here, whatever the database would say.
"""

import logging
import math
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass, field

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from shared.errors import LeaseLost
from shared.models import OutboxMessage
from shared.queueing import task_context
from shared.queueing.task_context import TaskContext
from worker.delivery import runs
from worker.delivery.lease import Lease, table_of
from worker.delivery.owed import Owed
from worker.delivery.runs import Run

logger = logging.getLogger(__name__)

_RENEW = """
    UPDATE {table} AS leased
    SET lease_expires_at = statement_timestamp() + make_interval(secs => held.seconds)
    FROM unnest(
        CAST(:ids AS uuid[]), CAST(:tokens AS bigint[]), CAST(:seconds AS float8[])
    ) AS held(id, token, seconds)
    WHERE leased.id = held.id AND leased.lease_token = held.token
      AND leased.lease_expires_at IS NOT NULL
    RETURNING leased.id
"""
#: Beats in the life of a lease: two may fail.
_BEATS = 3
_SHORTEST_BEAT_SECONDS = 0.2
#: How often it is looked whether the database is back, while something is owed to it.
_LONGEST_DEBT_SECONDS = 1.0
_FAILED = {"action": "lease.heartbeat_failed"}
_NOT_RENEWED = {"action": "lease.not_renewed"}


@dataclass(eq=False)
class _Held:
    lease: Lease
    run: Run | None
    #: From before the statement that confirmed it: the database counted from later on.
    confirmed: float = field(default_factory=time.monotonic)
    is_lost: bool = False
    context: TaskContext | None = field(default_factory=task_context.current)

    def lose(self, reason: str) -> None:
        """Stop the work; the task says so when it ends."""
        self.is_lost = True
        if self.run is not None:
            what = f"{table_of(self.lease.model).name} {self.lease.row_id}: {reason}"
            self.run.stop(LeaseLost(what), is_whole=self.lease.model is OutboxMessage)


class Heartbeat:
    """The leases this process holds.

    Args:
        engine: the database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._held: set[_Held] = set()
        self._owed = Owed()
        self._changed = threading.Event()
        self._pid: int | None = None
        self._pause_seconds = _SHORTEST_BEAT_SECONDS

    @contextmanager
    def keep(self, lease: Lease, *, ends_run: bool = True) -> Iterator[None]:
        """Renew the lease while the block runs; end the block's run when it is lost.

        Args:
            lease: to keep.
            ends_run: whether the block works on nothing else; else its writes tell that it is
                lost, as they are fenced.
        """
        held = _Held(lease, runs.current() if ends_run else None)
        self._held.add(held)
        self._ensure_running()
        if lease.seconds / _BEATS < self._pause_seconds:
            self._changed.set()
        try:
            yield
        finally:
            self._held.discard(held)

    def owe(self, give_back: Callable[[], None]) -> None:
        """Give a lease back as soon as the database answers; ``give_back`` just found it away."""
        self._ensure_running()
        self._owed.add(give_back)
        self._changed.set()

    def _ensure_running(self) -> None:
        if self._pid == os.getpid():
            return
        # After a fork: the parent's thread is not here, and its leases are not ours.
        self._pid = os.getpid()
        self._owed = Owed()
        self._changed = threading.Event()
        thread = threading.Thread(target=self._beat_for_ever, name="heartbeat", daemon=True)
        # It outlives the task it is started in.
        Context().run(thread.start)

    def _beat_for_ever(self) -> None:
        while True:
            shortest = min((held.lease.seconds for held in self._held.copy()), default=3.0)
            longest = _LONGEST_DEBT_SECONDS if self._owed else math.inf
            self._pause_seconds = min(max(shortest / _BEATS, _SHORTEST_BEAT_SECONDS), longest)
            if self._changed.wait(self._pause_seconds):
                self._changed.clear()
                continue
            try:
                self.beat()
                self._owed.settle()
            except Exception:
                for context in self._contexts(self._held.copy()):
                    with task_context.entered(context):
                        logger.exception("heartbeat failed", extra=_FAILED)

    def beat(self) -> None:
        """Renew every lease once; lose those that are not ours any more."""
        by_table: dict[str, list[_Held]] = {}
        for held in self._held.copy():
            if not held.is_lost:
                by_table.setdefault(table_of(held.lease.model).name, []).append(held)
        for table, leases in by_table.items():
            self._renew(table, leases)

    def _renew(self, table: str, leases: list[_Held]) -> None:
        asked = time.monotonic()
        try:
            with self._engine.begin() as connection:
                connection.execute(text("SET LOCAL synchronous_commit = off"))
                renewed = set(
                    connection.scalars(
                        text(_RENEW.format(table=table)),
                        {
                            "ids": [str(held.lease.row_id) for held in leases],
                            "tokens": [held.lease.token for held in leases],
                            "seconds": [held.lease.seconds for held in leases],
                        },
                    )
                )
        except SQLAlchemyError as error:
            for context in self._contexts(leases):
                with task_context.entered(context):
                    logger.warning("lease not renewed: %s", error, extra=_NOT_RENEWED)
            return
        for held in leases:
            if held.lease.row_id in renewed:
                held.confirmed = asked
            elif held in self._held:  # given back while we asked, it is not lost
                held.lose("another worker has the lease, or the row is gone")

    @staticmethod
    def _contexts(leases: Collection[_Held]) -> "dict[TaskContext | None, None]":
        """The tasks that hold them, in their order; nobody's, when none does."""
        return dict.fromkeys(held.context for held in leases) or {None: None}

    def fence_overdue(self) -> None:
        """Lose what could not be renewed in time; touches nothing but memory, not even a log.

        The watchdog calls it: the heartbeat itself may hang in a black-holed connection,
        or have been frozen with its process.
        """
        now = time.monotonic()
        for held in self._held.copy():
            if not held.is_lost and now - held.confirmed >= held.lease.seconds:
                held.lose(
                    f"the lease was not renewed for {held.lease.seconds:g} s, "
                    "its work was stopped here"
                )
