"""Tasks of the tests, loaded into a worker with ``-I``."""

import os

from celery import shared_task
from redis import Redis
from sqlalchemy import text

from shared.models import db

SPANS = "test:spans"
DONE = "test:done"


@shared_task(name="tests.sleep_in_the_database", queue="dataset")
def sleep_in_the_database(seconds: float) -> None:
    """Sleep in the server, through the session every task has; note start and end there."""
    started = db.session.scalar(text("SELECT extract(epoch FROM clock_timestamp())"))
    db.session.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": seconds})
    ended = db.session.scalar(text("SELECT extract(epoch FROM clock_timestamp())"))
    with Redis.from_url(os.environ["REDIS_URL"]) as redis:
        redis.rpush(SPANS, f"{started} {ended}")


@shared_task(name="tests.count", queue="dataset")
def count() -> None:
    """Count."""
    with Redis.from_url(os.environ["REDIS_URL"]) as redis:
        redis.incr(DONE)
