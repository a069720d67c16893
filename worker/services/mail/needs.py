"""What sending a mail takes: collaborators as protocols, limits as numbers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from celery import Celery
from sqlalchemy.orm import Session, sessionmaker

from shared.submitting.mail import MailRules
from worker.delivery.leased_rows import LeasedRows
from worker.delivery.leased_run import KeepsLeases
from worker.providers.mailer import Mailer
from worker.services.mail.composing import Composer


class Rate(Protocol):
    """The provider's rate, over all workers."""

    def reserve(self, longest_wait_seconds: float) -> float:
        """Seconds until it is this mail's turn; negative when that is too long."""


@dataclass(frozen=True, slots=True)
class MailNeeds:
    """Everything a delivery touches.

    Attributes:
        rows: claims deliveries and writes them, each write a transaction of its own.
        mailer: opens the provider; gives ``None`` when mail is switched off.
        rate: ``None`` when there is no limit.
        lease_seconds: life of the lease.
        max_attempts: pick-ups of a delivery before it fails.
    """

    sessions: sessionmaker[Session]
    rows: LeasedRows
    mailer: Callable[[], Mailer | None]
    rate: Rate | None
    composer: Composer
    rules: MailRules
    celery: Celery
    lease_seconds: float
    max_attempts: int
    heartbeat: KeepsLeases
