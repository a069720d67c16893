"""What the tasks of the benchmarks do; light, as RQ imports it anew for each job."""

import hashlib
import os
import time


def nothing(number: int) -> int:
    """Do nothing; nobody wants the result."""
    return number


def busy(milliseconds: float) -> None:
    """Compute for so long by the thread's own clock: what others take does not count."""
    until = time.thread_time() + milliseconds / 1000
    while time.thread_time() < until:
        hashlib.sha256(b"work" * 500).digest()


def asleep(key: str, broker: str) -> None:
    """Say in Redis when it begins and in which process; sleep for ever, the first time."""
    import redis

    with redis.Redis.from_url(broker) as client:
        if client.rpush(key, f"{os.getpid()} {time.time()}") > 1:
            return
    while True:
        time.sleep(1)
