"""Tasks of the tests, loaded into a worker with ``-I``."""

import os

from celery import shared_task
from redis import Redis
from sqlalchemy import text

from shared.models import db

#: Whoever holds this advisory lock keeps every ``tests.wait_in_the_database`` waiting.
GATE = 4711
DONE = "test:done"


@shared_task(name="tests.wait_in_the_database", queue="dataset")
def wait_in_the_database() -> None:
    """Wait in the server for the gate, through the session every task has."""
    db.session.execute(text("SELECT pg_advisory_xact_lock_shared(:gate)"), {"gate": GATE})


@shared_task(name="tests.count", queue="dataset")
def count() -> None:
    """Count."""
    with Redis.from_url(os.environ["REDIS_URL"]) as redis:
        redis.incr(DONE)
