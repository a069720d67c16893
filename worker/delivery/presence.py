"""A worker's own report: it lives, so much it has in hand, then it last took a message.

Written by the relay's thread, so it says nothing of the consumer but what that
did: a worker can be alive, connected, and take nothing. One that finds itself so
starts itself anew.
"""

import logging
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil
from celery.worker import state
from kombu import Connection as BrokerConnection
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from shared.queueing.publishing import BROKER_ERRORS
from worker.delivery import broker, metrics, shutdown
from worker.delivery.burying import Undertaker
from worker.delivery.nodes import COLUMNS, Node, Patience, node_of
from worker.delivery.restarting import restart_worker

logger = logging.getLogger(__name__)

#: What tasks in a pool's children get to hand back their work before a restart.
_HAND_BACK_SECONDS = 10.0
_POLL_SECONDS = 0.1

_REPORT = text(f"""
    INSERT INTO worker_nodes AS known (
        name, host, pid, process_created, pool, concurrency, queues, busy,
        started_at, seen_at, last_consumed_at, unserved_since,
        clock_offset_seconds
    )
    VALUES (
        :name, :host, :pid, :process_created, :pool, :concurrency, CAST(:queues AS text[]), :busy,
        now() - make_interval(secs => :age_seconds), now(),
        now() - make_interval(secs => :consumed_seconds),
        CASE WHEN :unserved IN ('anew', 'yes') THEN now() END,
        CAST(:clock AS float8) - extract(epoch FROM statement_timestamp())
    )
    ON CONFLICT (name) DO UPDATE SET
        host = excluded.host, pid = excluded.pid, process_created = excluded.process_created,
        pool = excluded.pool, concurrency = excluded.concurrency, queues = excluded.queues,
        busy = excluded.busy, started_at = excluded.started_at, seen_at = excluded.seen_at,
        last_consumed_at = excluded.last_consumed_at,
        clock_offset_seconds = excluded.clock_offset_seconds,
        unserved_since = CASE :unserved
            WHEN 'anew' THEN now()
            WHEN 'yes' THEN coalesce(known.unserved_since, now())
            WHEN 'unknown' THEN known.unserved_since
        END
    RETURNING {COLUMNS}
""")  # noqa: S608 - no input in it
_FORGET_OLD = text("DELETE FROM worker_nodes WHERE seen_at < now() - interval '1 day'")
_WITHDRAW = text("""
    DELETE FROM worker_nodes WHERE name = :name AND pid = :pid AND host = :host
""")


@dataclass(frozen=True, slots=True)
class Identity:
    """What does not change of a worker while it runs."""

    name: str
    pool: str
    concurrency: int
    queues: Sequence[str]


class Presence:
    """Reports one worker; built and called in its main process.

    Args:
        engine: the database.
        connect: makes a connection to the broker.
        identity: who it is.
        patience: when it counts as wedged.
        restart: starts the worker anew, with the reason.
    """

    def __init__(
        self,
        engine: Engine,
        connect: Callable[[], BrokerConnection],
        identity: Identity,
        patience: Patience,
        restart: Callable[[str], None] | None = None,
    ) -> None:
        self._engine = engine
        self._connect = connect
        self._connection: BrokerConnection | None = None
        self._identity = identity
        self._patience = patience
        self._restart = restart or _restart_after_hand_back
        self._process_created = psutil.Process().create_time()
        self._started = time.monotonic()
        self._consumed: float | None = None
        report_seconds = patience.report_seconds
        self._undertaker = Undertaker(engine, identity.name, platform.node(), report_seconds)
        self._has_reported = False
        self._is_clock_wrong = False
        #: Whether the last report could count the messages.
        self._has_counted = False

    def consumed(self) -> None:
        """A message came from the broker; called for each."""
        self._consumed = time.monotonic()

    def report(self) -> None:
        """Write the row; start the worker anew if it finds itself wedged.

        Raises:
            SQLAlchemyError: the database does not answer.
        """
        backlog = self._backlog()
        if not self._has_reported:
            self._undertaker.bury_predecessor()
        node = self._write(backlog)
        self._has_reported = True
        self._judge_clock(node)
        self._undertaker.bury_silent()
        if backlog is None or shutdown.is_begun() or not node.is_wedged(backlog, self._patience):
            return
        self._restart(
            f"it took nothing for {node.idle_seconds:.0f} s while messages waited: "
            f"{node.waiting(backlog)}"
        )

    def withdraw(self) -> None:
        """Take the row away: the worker ends as it should. A row that stays is a lost worker's."""
        self._close()
        with suppress(SQLAlchemyError), self._engine.begin() as connection:
            connection.execute(_WITHDRAW, self._who())

    def _who(self) -> dict[str, Any]:
        return {"name": self._identity.name, "host": platform.node(), "pid": os.getpid()}

    def _write(self, backlog: Mapping[str, int] | None) -> Node:
        now, identity = time.monotonic(), self._identity
        busy = len(state.reserved_requests)
        values = {
            **self._who(),
            "process_created": self._process_created,
            "pool": identity.pool,
            "concurrency": identity.concurrency,
            "queues": list(identity.queues),
            "busy": busy,
            "age_seconds": now - self._started,
            "consumed_seconds": None if self._consumed is None else now - self._consumed,
            "unserved": self._unserved(backlog, busy),
            "clock": time.time(),
        }
        self._has_counted = backlog is not None
        with self._engine.begin() as connection:
            connection.execute(_FORGET_OLD)
            return node_of(connection.execute(_REPORT, values).one())

    def _judge_clock(self, node: Node) -> None:
        metrics.CLOCK_OFFSET_SECONDS.set(node.clock_offset_seconds)
        line = node.clock_line()
        if line and not self._is_clock_wrong:
            # Leases go by the database's clock; only a message's expiry is the worker's to judge.
            logger.warning("%s", line, extra={"action": "presence.clock"})
        self._is_clock_wrong = line is not None

    def _unserved(self, backlog: Mapping[str, int] | None, busy: int) -> str:
        if backlog is None:
            return "unknown"
        if busy >= self._identity.concurrency:
            return "no"
        if not any(backlog.values()):
            return "no"
        # After a broker that was away, and after a start, time counts from now on.
        return "yes" if self._has_counted else "anew"

    def _backlog(self) -> dict[str, int] | None:
        try:
            if self._connection is None:
                self._connection = self._connect()
            return backlog_of(self._connection, self._identity.queues)
        except BROKER_ERRORS:
            self._close()
            return None

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.release()


def backlog_of(connection: BrokerConnection, queues: Sequence[str]) -> dict[str, int]:
    """How many messages wait in each queue.

    Raises:
        kombu.exceptions.OperationalError: the broker does not answer.
    """
    # Without it kombu tries for seconds before it says so.
    connection.ensure_connection(max_retries=1, interval_start=0)
    return {queue: broker.backlog(connection, queue) for queue in queues}


def _restart_after_hand_back(reason: str) -> None:
    shutdown.begin(0.0)
    # A pool's children hand back by themselves; what runs in this process is the restart's.
    deadline = time.monotonic() + _HAND_BACK_SECONDS
    while time.monotonic() < deadline and len(state.active_requests):
        time.sleep(_POLL_SECONDS)
    restart_worker(reason)
