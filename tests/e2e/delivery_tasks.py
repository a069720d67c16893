"""Tasks that will not end by themselves; a worker loads them with ``-I``."""

import ctypes
import os
import time
from typing import Any

from celery import Task, shared_task
from redis import Redis
from sqlalchemy import text

from shared.errors import RagWorkerError
from shared.models import db
from worker.delivery import runs

BEGUN = "test:begun"
ENDED = "test:ended"
SECONDS = 600


def record(key: str, value: str) -> None:
    with Redis.from_url(os.environ["REDIS_URL"]) as redis:
        redis.rpush(key, value)


@shared_task(name="tests.sleeps", deadline_seconds=1.0)
def sleeps() -> None:
    record(BEGUN, str(os.getpid()))
    time.sleep(SECONDS)


@shared_task(name="tests.computes", deadline_seconds=1.0)
def computes() -> None:
    record(BEGUN, str(os.getpid()))
    while True:
        pass


@shared_task(name="tests.stalls", stall_seconds=1.0)
def stalls() -> None:
    record(BEGUN, str(os.getpid()))
    while True:
        time.sleep(0.05)


@shared_task(name="tests.stuck", deadline_seconds=1.0)
def stuck() -> None:
    """Wait in C for ever, deaf to every signal: for a lock this thread holds itself."""
    record(BEGUN, str(os.getpid()))
    libc = ctypes.CDLL(None)
    mutex = ctypes.create_string_buffer(64)
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_lock(mutex)


@shared_task(name="tests.steps")
def steps(name: str, number: int) -> None:
    """Work in short steps with a checkpoint each, as well-behaved tasks do."""
    record(BEGUN, name)
    for _ in range(number):
        runs.checkpoint()
        time.sleep(0.05)
    record(ENDED, name)


@shared_task(name="tests.fails_at_length", base=Task)
def fails_at_length() -> None:
    """Say more than fits into a pipe; no task of ours, that would not begin in a shutdown."""
    record(BEGUN, "fails at length")
    raise ValueError("x" * 500_000)


@shared_task(name="tests.alive", ignore_result=False)
def alive() -> int:
    value: Any = db.session.scalar(text("SELECT 1"))
    return int(value)


@shared_task(name="tests.notices")
def notices() -> None:
    """Work until told to stop, and tell why."""
    record(BEGUN, "notices")
    try:
        while True:
            runs.checkpoint()
            time.sleep(0.05)
    except RagWorkerError as reason:
        record(ENDED, str(reason))
        raise
