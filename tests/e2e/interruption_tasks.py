"""Tasks that never end by themselves, under a watchdog; a worker loads them with ``-I``."""

import os
import time
from collections.abc import Callable

from celery import shared_task
from redis import Redis
from sqlalchemy import text

from shared.errors import Permanent
from shared.models import db
from worker.delivery.interruption import Interruptible, interruptible
from worker.delivery.watchdog import Watchdog

ENDED = "test:ended"
ALLOWED_SECONDS = 0.5


class DeadlinePassed(Permanent):
    """The task took too long."""


def compute() -> None:
    while True:
        pass


def sleep_shortly() -> None:
    while True:
        time.sleep(0.01)


def sleep_long() -> None:
    time.sleep(600)


def sleep_in_the_database() -> None:
    db.session.execute(text("SELECT pg_sleep(600)"))


WORK: dict[str, Callable[[], None]] = {
    work.__name__: work for work in (compute, sleep_shortly, sleep_long, sleep_in_the_database)
}

_started: dict[Interruptible, float] = {}


def _end_the_overdue() -> None:
    for flow, started in list(_started.items()):
        if time.monotonic() > started + ALLOWED_SECONDS:
            flow.interrupt(DeadlinePassed(f"after {ALLOWED_SECONDS} s"))


WATCHDOG = Watchdog(0.1, _end_the_overdue)


def _record(outcome: str) -> None:
    with Redis.from_url(os.environ["REDIS_URL"]) as redis:
        redis.rpush(ENDED, f"{outcome} in {os.getpid()}")


@shared_task(name="tests.never_ends", queue="dataset")
def never_ends(kind: str) -> None:
    """Do what ``kind`` says until the watchdog ends it; note how that looked from inside."""
    WATCHDOG.ensure_running()
    try:
        with interruptible() as flow:
            _started[flow] = time.monotonic()
            try:
                flow.run(WORK[kind])
            finally:
                del _started[flow]
    except DeadlinePassed as error:
        _record(f"{kind}: {error}")


@shared_task(name="tests.ends", queue="dataset")
def ends() -> None:
    """Use the database, and note it."""
    _record(f"{db.session.scalar(text('SELECT 42'))}")
