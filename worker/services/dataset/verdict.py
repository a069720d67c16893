"""The answer to "why is my document not there?", as a value."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class Kind(StrEnum):
    """What is the matter with a document."""

    QUEUED = "queued"  #: waits for its turn
    HELD_BACK = "held_back"  #: somebody or a bound keeps it from its turn
    STARVED = "starved"  #: nobody takes it
    RUNNING = "running"  #: a worker has it
    RETRYING = "retrying"  #: an attempt failed, the next has its time
    STUCK = "stuck"  #: nobody has it any more; the sweeper sends it out again
    DEAD = "dead"  #: ended; nothing happens by itself
    COMPLETED = "completed"  #: searchable in its newest version
    GONE = "gone"  #: there is none of this id


class Cause(StrEnum):
    """What holds it back, starves it or left it stuck."""

    PAUSE = "pause"  #: a person paused it
    SWITCH = "switch"  #: a rule holds its task, tenant or id
    TENANT_CAP = "tenant_cap"  #: its tenant has as much under way as it may
    NO_WORKER = "no_worker"  #: no worker consumes its queue
    HIGH_WATER_MARK = "high_water_mark"  #: the broker holds as much as it may; tenants take turns
    WORKER_DIED = "worker_died"  #: its lease ran out
    NO_MESSAGE = "no_message"  #: nothing announces it


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a document is where it is.

    Attributes:
        summary: one sentence for people.
        way_out: what to do, or what happens without anybody doing anything.
        since: when this began.
        until: when it goes on at the latest, or is tried again.
        position: messages of its queue before it.
        eta_seconds: until it is picked up, or done when it runs; a guess by what is known.
    """

    document_id: UUID
    kind: Kind
    summary: str
    way_out: str
    name: str | None = None
    cause: Cause | None = None
    since: datetime | None = None
    until: datetime | None = None
    position: int | None = None
    eta_seconds: float | None = None
    stage: str | None = None
    done_segments: int | None = None
    segments_per_second: float | None = None
    worker: str | None = None
    error: str | None = None
    rule_id: UUID | None = None
    dead_letter_id: UUID | None = None
