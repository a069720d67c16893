"""What the schedule runs, one worker at a time: a second run of the same entry goes away.

The row of the entry is leased while it runs, so that a worker that dies, or freezes,
keeps nobody out for longer than its lease.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID, uuid5

from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from shared.errors import LeaseLost
from shared.models import ScheduledRun
from shared.submitting.files import storable
from worker.delivery import runs
from worker.delivery.heartbeat import Heartbeat
from worker.delivery.lease import Ago, Lease, claim, release, renew

logger = logging.getLogger(__name__)

_NAMESPACE = UUID("3b0c1b0e-5d0e-5a52-9a2f-6b1a0c9d7e21")
_KNOWN = text("""
    INSERT INTO scheduled_runs (id, name) VALUES (:id, :name) ON CONFLICT DO NOTHING
""")
_STATE = text("""
    SELECT position, ended_at IS NOT NULL AND error IS NULL
           AND started_at > statement_timestamp() - make_interval(secs => :seconds) AS is_fresh
    FROM scheduled_runs WHERE id = :id
""")
_COUNT = text("UPDATE scheduled_runs SET total = total + :done WHERE id = :id")


@dataclass(slots=True)
class Turn:
    """One run of an entry.

    Attributes:
        position: where the run before had come to; ``None``: begin at the beginning.
    """

    position: str | None
    _sessions: sessionmaker[Session]
    _lease: Lease

    def reach(self, position: str | None) -> None:
        """Note how far it is: a run that goes on after this one's death begins there.

        Raises:
            LeaseLost: (superseded) another worker runs the entry by now.
        """
        runs.checkpoint()
        with self._sessions.begin() as session:
            renew(session, self._lease, position=position)
        self.position = position


@dataclass(frozen=True, slots=True)
class Done:
    """What a run did: a number for the metrics, words for people."""

    number: int
    words: str


Work = Callable[[Turn], Done]


def run_alone(
    name: str,
    work: Work,
    *,
    sessions: sessionmaker[Session],
    heartbeat: Heartbeat,
    lease_seconds: float,
    rest_seconds: float = 0.0,
) -> Done | None:
    """Do an entry's work, unless another worker is at it.

    Args:
        name: the entry's.
        work: what is to be done.
        sessions: makes sessions.
        heartbeat: renews the lease meanwhile.
        lease_seconds: how long a worker that died keeps others out.
        rest_seconds: after a run that went well none is begun for so long.

    Returns:
        What was done; ``None`` when there was no need.
    """
    turn = _begin(name, sessions, lease_seconds, rest_seconds)
    if turn is None:
        return None
    try:
        with heartbeat.keep(turn._lease):  # noqa: SLF001 - made here
            done = runs.part(lambda: work(turn))
    except BaseException as error:
        with suppress(LeaseLost):
            _end(turn, storable(str(error) or type(error).__name__), None)
        raise
    _end(turn, None, done)
    if done.number:
        logger.info("%s: %s", name, done.words, extra={"action": f"schedule.{name}"})
    return done


def run_id(name: str) -> UUID:
    """The id of an entry's row."""
    return uuid5(_NAMESPACE, name)


def _begin(
    name: str, sessions: sessionmaker[Session], lease_seconds: float, rest_seconds: float
) -> Turn | None:
    row_id = run_id(name)
    with sessions.begin() as session:
        session.execute(_KNOWN, {"id": row_id, "name": name})
        state = session.execute(_STATE, {"id": row_id, "seconds": rest_seconds}).one()
        if state.is_fresh:
            return None
        lease = claim(session, ScheduledRun, row_id, lease_seconds, started_at=Ago())
    if lease is None:
        logger.info("%s: another worker is at it", name, extra={"action": "schedule.overlap"})
        return None
    return Turn(state.position, sessions, lease)


def _end(turn: Turn, error: str | None, done: Done | None) -> None:
    with turn._sessions.begin() as session:  # noqa: SLF001 - made here
        lease = turn._lease  # noqa: SLF001
        values = {} if done is None else {"report": done.words}
        release(session, lease, ended_at=Ago(), error=error, **values)
        if done is not None and done.number:
            session.execute(_COUNT, {"id": lease.row_id, "done": done.number})
