"""The relay's thread in a worker's main process."""

import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from shared.queueing.publishing import BROKER_ERRORS, CHANNEL
from worker.delivery import metrics
from worker.delivery.reaping import expire_leases_of
from worker.delivery.relay import Relay

logger = logging.getLogger(__name__)

#: Finished tasks make room; several at once are answered by one pass.
_BREATH_SECONDS = 0.01
#: After a failure: long enough not to fill the log, short enough to resume at once.
_RECOVERY_SECONDS = 2.0


@dataclass
class _Chore:
    period_seconds: float
    do: Callable[[], None]
    due: float = 0.0


class RelayThread:
    """Runs passes until stopped; woken by PostgreSQL, by tasks that end, and by time.

    Args:
        relay: does the work.
        engine: the database.
        poll_seconds: the longest time between two passes.
        chores: what else runs here and how often in seconds: measuring, presence.
    """

    def __init__(
        self,
        relay: Relay,
        engine: Engine,
        poll_seconds: float,
        chores: "tuple[tuple[float, Callable[[], None]], ...]" = (),
    ) -> None:
        self._relay = relay
        self._engine = engine
        self._poll_seconds = poll_seconds
        self._chores = [_Chore(period_seconds, do) for period_seconds, do in chores]
        self._dead: deque[str] = deque()
        self._is_backlogged = True
        self._stopping = False
        self._awake = os.pipe()
        self._listening: Any = None
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        for end in self._awake:
            os.set_blocking(end, False)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the pass at hand."""
        self._stopping = True
        self.wake()
        self._thread.join(timeout=10)

    def wake(self) -> None:
        """Run a pass soon; callable from any thread, costs nothing worth counting."""
        try:
            os.write(self._awake[1], b"x")
        except BlockingIOError:
            return  # it has plenty to wake up from

    def task_ended(self) -> None:
        """A task of this worker ended: there may be room for another."""
        if self._is_backlogged:
            self.wake()

    def child_died(self, owner: str) -> None:
        """A pool child died at work: what it held is free at once."""
        metrics.CHILDREN_DIED.inc()
        self._dead.append(owner)
        self.wake()

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._bury_the_dead()
                self._pass()
                self._do_chores()
                self._wait(self._poll_seconds)
            except (SQLAlchemyError, *BROKER_ERRORS) as error:
                self._recover(error, "away")
            except Exception as error:
                logger.exception("the relay failed", extra={"action": "relay.failed"})
                self._recover(error, "unexpected")
        self._relay.close()
        self._stop_listening()

    def _pass(self) -> None:
        began = time.monotonic()
        passed = self._relay.run_pass()
        self._is_backlogged = passed.is_backlogged
        metrics.RELAY_PASS_SECONDS.set(time.monotonic() - began)

    def _bury_the_dead(self) -> None:
        while self._dead:
            expire_leases_of(self._engine, self._dead[0])
            self._dead.popleft()

    def _do_chores(self) -> None:
        for chore in self._chores:
            if time.monotonic() >= chore.due:
                chore.due = time.monotonic() + chore.period_seconds
                chore.do()

    def _recover(self, error: Exception, kind: str) -> None:
        metrics.RELAY_FAILURES.labels(kind).inc()
        logger.warning("the relay waits: %s", error, extra={"action": "relay.waits"})
        self._stop_listening()
        if not self._stopping:
            self._sleep(_RECOVERY_SECONDS)

    def _wait(self, seconds: float) -> None:
        listening = self._listen()
        readable, _, _ = select.select([self._awake[0], listening.connection], [], [], seconds)
        if listening.connection in readable:
            listening.connection.poll()
            listening.connection.notifies.clear()
        if self._awake[0] in readable:
            self._drain()
            self._sleep(_BREATH_SECONDS)

    def _sleep(self, seconds: float) -> None:
        threading.Event().wait(seconds)
        self._drain()

    def _drain(self) -> None:
        try:
            while os.read(self._awake[0], 4096):
                pass
        except BlockingIOError:
            return

    def _listen(self) -> Any:
        if self._listening is None:
            # Out of the pool for good: it must not be handed to anybody with LISTEN on.
            connection = self._engine.connect()
            connection.detach()
            connection.execute(text(f"LISTEN {CHANNEL}"))
            connection.commit()
            self._listening = _Listening(connection)
        return self._listening

    def _stop_listening(self) -> None:
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.close()


class _Listening:
    def __init__(self, held: Any) -> None:
        self._held = held
        self.connection = held.connection.dbapi_connection
        self.connection.autocommit = True

    def close(self) -> None:
        try:
            self._held.close()
        except SQLAlchemyError:
            return
