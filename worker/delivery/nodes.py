"""Worker nodes as their rows describe them, and the rule that says which of them is wedged.

A wedged worker is connected, has a free slot, and takes nothing although messages
wait in its queues. A worker whose slots are all busy is not: its tasks have
deadlines of their own. Neither is an idle one: on an empty queue there is nothing
to take, but for the small task that beat sends there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

import psutil
from sqlalchemy import Engine, Row, text

from shared.settings import Settings
from worker.delivery.processes import running

#: Reports that may be missed before a worker counts as silent.
_MISSED_REPORTS = 3
#: From here on a host's clock is wrong, and not the time that a report takes.
CLOCK_TOLERANCE_SECONDS = 5.0

#: What ``node_of`` needs of a row.
COLUMNS = """
    name, host, pid, process_created, pool, concurrency, queues, busy,
    clock_offset_seconds,
    extract(epoch FROM statement_timestamp() - seen_at) AS silent_seconds,
    extract(epoch FROM statement_timestamp() - greatest(started_at, last_consumed_at))
        AS idle_seconds,
    extract(epoch FROM statement_timestamp() - unserved_since) AS unserved_seconds
"""
# A row that somebody else writes at this moment is his to judge.
_OBSERVE = text("""
    WITH free AS (SELECT name FROM worker_nodes ORDER BY name FOR UPDATE SKIP LOCKED)
    UPDATE worker_nodes SET unserved_since = CASE
        WHEN queues && CAST(:waiting AS text[]) AND busy < concurrency
        THEN coalesce(unserved_since, statement_timestamp())
    END
    FROM free WHERE worker_nodes.name = free.name
""")
_ALL = text(f"SELECT {COLUMNS} FROM worker_nodes ORDER BY name")  # noqa: S608 - no input in it


class State(StrEnum):
    """What a worker is to those who look at it."""

    LIVE = "live"  #: reports, and takes what there is
    SILENT = "silent"  #: has not reported lately; too early to say more
    WEDGED = "wedged"  #: runs, and takes nothing although it should
    LOST = "lost"  #: gone without a word


@dataclass(frozen=True, slots=True)
class Patience:
    """How long what may last, in seconds.

    Attributes:
        report_seconds: from one report of a worker to the next.
        wedged_seconds: taking nothing although there is work and room.
        task_seconds: the longest task: so long a silent worker is believed to be busy.
    """

    report_seconds: float
    wedged_seconds: float
    task_seconds: float

    @property
    def silent_seconds(self) -> float:
        """After this without a report a worker is silent."""
        return _MISSED_REPORTS * self.report_seconds

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """As the settings say."""
        return cls(
            settings.presence.presence_seconds,
            settings.presence.wedged_seconds,
            settings.delivery.delivery_task_deadline_seconds,
        )


@dataclass(frozen=True, slots=True)
class Node:
    """One worker, by its row; ages are in seconds by the database's clock."""

    name: str
    host: str
    pid: int
    process_created: float
    pool: str
    concurrency: int
    queues: tuple[str, ...]
    busy: int
    #: Its host's clock less the database's; positive: it is ahead.
    clock_offset_seconds: float
    silent_seconds: float
    #: Since it took a message, or started.
    idle_seconds: float
    #: Since when messages waited and it had room, at every look; 0 when they do not.
    unserved_seconds: float

    def clock_line(self) -> str | None:
        """What to say of its clock; ``None`` while that is right."""
        offset_seconds = self.clock_offset_seconds
        if abs(offset_seconds) < CLOCK_TOLERANCE_SECONDS:
            return None
        side = "ahead of" if offset_seconds > 0 else "behind"
        return (
            f"the clock of worker {self.name} is {abs(offset_seconds):.0f} s {side} the "
            f"database's: set the time of its host {self.host} (NTP)"
        )

    def process(self) -> psutil.Process | None:
        """Its main process, if that runs on this host; call it on the node's host only."""
        return running(self.pid, self.process_created)

    def waiting(self, backlog: Mapping[str, int]) -> dict[str, int]:
        """The queues of its own in which messages wait, and how many."""
        return {queue: backlog[queue] for queue in self.queues if backlog.get(queue)}

    def is_silent(self, patience: Patience) -> bool:
        """Whether it missed its reports."""
        return self.silent_seconds > patience.silent_seconds

    def is_wedged(self, backlog: Mapping[str, int], patience: Patience) -> bool:
        """Whether it takes nothing although it should; of a process that runs."""
        is_full = self.busy >= self.concurrency and self.silent_seconds < patience.task_seconds
        if is_full or not self.waiting(backlog):
            return False
        # Its own silence, the database being there, is as good as somebody having looked.
        unserved_seconds = max(self.unserved_seconds, self.silent_seconds)
        return min(unserved_seconds, self.idle_seconds) >= patience.wedged_seconds

    def state(self, backlog: Mapping[str, int], patience: Patience, host: str) -> State:
        """What it is, seen from a host, with so many messages in the broker's queues."""
        is_silent = self.is_silent(patience)
        if is_silent and self.host == host and self.process() is None:
            return State.LOST
        if is_silent and self.host != host:
            # Its process cannot be looked at from here.
            is_over = self.silent_seconds > max(patience.wedged_seconds, patience.silent_seconds)
            return State.LOST if is_over else State.SILENT
        if self.is_wedged(backlog, patience):
            return State.WEDGED
        return State.SILENT if is_silent else State.LIVE


def observe(engine: Engine, backlog: Mapping[str, int]) -> list[Node]:
    """Note in every row whether messages wait for that worker, and return all of them.

    Raises:
        SQLAlchemyError: the database does not answer.
    """
    with engine.begin() as connection:
        connection.execute(_OBSERVE, {"waiting": [queue for queue in backlog if backlog[queue]]})
        return [node_of(row) for row in connection.execute(_ALL)]


def node_of(row: Row[*tuple[object, ...]]) -> Node:
    """The node that a row with ``COLUMNS`` describes."""
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's documented way
    for age in ("silent_seconds", "idle_seconds", "unserved_seconds"):
        values[age] = float(values[age] or 0)
    return Node(**{**values, "queues": tuple(values["queues"])})


def unserved_queues(
    backlog: Mapping[str, int], nodes: Sequence[Node], states: Mapping[str, State]
) -> dict[str, int]:
    """Queues in which messages wait and from which no live worker takes, and how many wait."""
    served = {queue for node in nodes if states[node.name] is State.LIVE for queue in node.queues}
    return {queue: number for queue, number in backlog.items() if number and queue not in served}
