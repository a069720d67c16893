"""The relay's thread in a worker's main process."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import psycopg2
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from shared.models.types import MYSQL
from shared.queueing.publishing import BROKER_ERRORS
from worker.delivery import metrics
from worker.delivery.listening import Bell, Listening, Polling
from worker.delivery.reaping import expire_leases_of
from worker.delivery.relay import Passed, Relay

logger = logging.getLogger(__name__)

#: Finished tasks make room; several at once are answered by one pass.
_BREATH_SECONDS = 0.01
#: The same while passes find no room: held messages must not cost the tasks their processor.
_LONGEST_BREATH_SECONDS = 0.25
#: The same while the broker holds more than workers take in that time.
_STOCKED_BREATH_SECONDS = 0.08
#: Another relay had the queue: it is done by then.
_CONTENDED_SECONDS = 0.05
#: After a failure: long enough not to fill the log, short enough to resume at once.
_RECOVERY_SECONDS = 2.0

_OUTAGES = (SQLAlchemyError, psycopg2.Error, *BROKER_ERRORS)


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
        chores: what else runs here and how often in seconds: measuring, sweeping. One
            that fails is repeated soon.
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
        self._passed = Passed(is_backlogged=True)
        self._breath_seconds = _BREATH_SECONDS
        self._stopping = False
        self._bell = Bell()
        self._listening: Listening | Polling | None = None
        #: When it last began anew, on the monotonic clock in seconds.
        self.turned = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the pass at hand."""
        self._stopping = True
        self.wake()
        self._thread.join(timeout=10)

    def wake(self) -> None:
        """Run a pass soon; callable from any thread."""
        self._bell.ring()

    def task_ended(self) -> None:
        """A task of this worker ended: there may be room for another."""
        if self._passed.is_backlogged:
            self._bell.ring()

    def child_died(self, owner: str) -> None:
        """A pool child died at work: what it held is free at once."""
        metrics.CHILDREN_DIED.inc()
        self._dead.append(owner)
        self.wake()

    def _run(self) -> None:
        while not self._stopping:
            self.turned = time.monotonic()
            try:
                # Before the pass: what is written after it looked must be heard.
                listening = self._listen()
                # First the chores: a worker cut off from its broker must still report.
                self._do_chores()
                self._bury_the_dead()
                self._pass()
                self._wait(listening)
            except _OUTAGES as error:
                self._recover(error, "away")
            except Exception as error:
                logger.exception("the relay failed", extra={"action": "relay.failed"})
                self._recover(error, "unexpected")
        self._relay.close()
        self._stop_listening()

    def _pass(self) -> None:
        began = time.monotonic()
        self._passed = passed = self._relay.run_pass()
        metrics.RELAY_PASS_SECONDS.set(time.monotonic() - began)
        longest = _BREATH_SECONDS
        if passed.is_backlogged and not passed.published:
            longest = _LONGEST_BREATH_SECONDS
        elif passed.is_stocked:
            longest = _STOCKED_BREATH_SECONDS
        self._breath_seconds = min(2 * self._breath_seconds, longest)

    def _bury_the_dead(self) -> None:
        while self._dead:
            expire_leases_of(self._engine, self._dead[0])
            self._dead.popleft()

    def _do_chores(self) -> None:
        for chore in self._chores:
            if time.monotonic() < chore.due:
                continue
            chore.due = time.monotonic() + chore.period_seconds
            try:
                chore.do()
            except Exception as error:  # noqa: BLE001 - messages go out all the same
                chore.due = time.monotonic() + min(chore.period_seconds, _RECOVERY_SECONDS)
                logger.warning("a chore failed: %s", error, extra={"action": "relay.chore"})

    def _recover(self, error: Exception, kind: str) -> None:
        metrics.RELAY_FAILURES.labels(kind).inc()
        logger.warning("the relay waits: %s", error, extra={"action": "relay.waits"})
        self._stop_listening()
        if not self._stopping:
            self._sleep(_RECOVERY_SECONDS)

    def _wait(self, listening: Listening | Polling) -> None:
        longest = _CONTENDED_SECONDS if self._passed.is_contended else self._poll_seconds
        seconds = min(longest, self._passed.due_in_seconds)
        if listening.wait(self._bell, seconds):
            self._sleep(self._breath_seconds)
        else:
            self._breath_seconds = _BREATH_SECONDS

    def _sleep(self, seconds: float) -> None:
        if not self._stopping:
            threading.Event().wait(seconds)
        self._bell.silence()

    def _listen(self) -> Listening | Polling:
        if self._listening is None:
            if self._engine.dialect.name in MYSQL:
                self._listening = Polling(lambda: bool(self._passed.published))
            else:
                self._listening = Listening(self._engine)
        return self._listening

    def _stop_listening(self) -> None:
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.close()
