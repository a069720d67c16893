"""What delivering traces takes: collaborators as protocols, limits as numbers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from celery import Celery
from sqlalchemy.orm import Session, sessionmaker

from worker.delivery.leased_run import KeepsLeases
from worker.providers.trace_sender import TraceSender
from worker.services.ops_trace.payloads import PayloadFiles


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How much one task takes at once.

    Attributes:
        traces: rows.
        spans: of all of them.
        payload_bytes: likewise, deflated as they are stored.
    """

    traces: int = 200
    spans: int = 5000
    payload_bytes: int = 2 * 1024**2


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """When a provider is left alone, and for how long.

    Attributes:
        failures: in a row until then.
        shortest_seconds: the first time; each further one twice as long.
        longest_seconds: at most; what the provider asks for goes before both.
    """

    failures: int = 3
    shortest_seconds: float = 5.0
    longest_seconds: float = 300.0


@dataclass(frozen=True, slots=True)
class ExportNeeds:
    """Everything a delivery touches.

    Attributes:
        sender: opens what carries spans.
        files: payloads that were too large for their rows.
        unsealed: opens a configuration's secrets.
        lease_seconds: life of the leases.
        max_attempts: pick-ups of a trace, while its provider takes others, before it fails.
        max_deaths: workers that may die on a trace before it fails.
    """

    sessions: sessionmaker[Session]
    sender: Callable[[], TraceSender]
    files: PayloadFiles
    unsealed: Callable[[str], dict[str, Any]]
    celery: Celery
    heartbeat: KeepsLeases
    lease_seconds: float
    max_attempts: int
    max_deaths: int
    limits: BatchLimits = field(default_factory=BatchLimits)
    breaker: BreakerRules = field(default_factory=BreakerRules)
