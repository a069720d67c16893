"""What sending a mail takes: collaborators as protocols, limits as numbers."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from celery import Celery
from sqlalchemy import Connection
from sqlalchemy.orm import Session, sessionmaker

from shared.submitting.mail import MailRules
from worker.delivery.lease import Lease
from worker.providers.mailer import Mailer
from worker.services.mail.composing import Composer


class Heartbeat(Protocol):
    """What keeps a lease alive."""

    def keep(self, lease: Lease) -> AbstractContextManager[None]:
        """Renew the lease while the block runs; end the task when it is lost."""


class Rate(Protocol):
    """The provider's rate, over all workers."""

    def reserve(self, longest_wait_seconds: float) -> float:
        """Seconds until it is this mail's turn; negative when that is too long."""


@dataclass(frozen=True, slots=True)
class MailNeeds:
    """Everything a delivery touches.

    Attributes:
        single: a connection on which each statement is a transaction of its own.
        mailer: opens the provider; gives ``None`` when mail is switched off.
        rate: ``None`` when there is no limit.
        lease_seconds: life of the lease.
        max_attempts: pick-ups of a delivery before it fails.
    """

    sessions: sessionmaker[Session]
    single: Callable[[], AbstractContextManager[Connection]]
    mailer: Callable[[], Mailer | None]
    rate: Rate | None
    composer: Composer
    rules: MailRules
    celery: Celery
    lease_seconds: float
    max_attempts: int
    heartbeat: Heartbeat
