"""A thousand messages in one transaction, against a thousand calls of ``.delay()``.

``python -m benchmarks publishing``: Celery's ``.delay()`` hands each message to the broker at
once and loses it with a rollback that comes too late, or a process that dies too early.
``.delay_on_commit()`` writes rows with the caller's transaction and publishes after the commit.
It is measured twice: with the default bounds, by which the producer publishes a tenant's first
messages and leaves the others to the workers' relays, and with bounds so wide that the
producer publishes all of them before its call returns.
"""

import time
from collections.abc import Callable, Iterator

import redis
from sqlalchemy import event, text

from benchmarks.noop import NOTHING, QUEUE
from benchmarks.report import OURS, Figure, compared, rounds
from benchmarks.rig import Rig, rig
from shared.models import db
from shared.queueing.publishing import Bounds

TARGET = 0.8
MESSAGES = 1000
DELAY = "Celery, 1,000 .delay()"
DEFAULT, WIDE = f"{OURS}, .delay_on_commit()", f"{OURS}, all published by the producer"
#: No worker's: what a bound that is never reached looks like.
_NO_BOUNDS = Bounds(10**9, 10**9)


def figures(budget_seconds: float) -> Iterator[Figure]:
    """Messages accepted per second, by the caller's clock."""
    with rig() as servers:
        celery = servers.app.extensions["celery"]
        bounds = celery.conf.outbox_bounds
        ways: dict[str, Callable[[], int]] = {
            DELAY: lambda: _delay(servers),
            DEFAULT: lambda: _delay_on_commit(servers, bounds),
            WIDE: lambda: _delay_on_commit(servers, _NO_BOUNDS),
        }
        runs: dict[str, list[float]] = {name: [] for name in ways}
        for name, way in ways.items():
            _timed(servers, name, way)  # imports, connections
        for turn in rounds(budget_seconds - 8, at_least=3):
            for name in list(ways)[:: -1 if turn % 2 else 1]:
                runs[name].append(_timed(servers, name, ways[name]))
        celery.conf.outbox_bounds = bounds
    for name in (DEFAULT, WIDE):
        pair = {DELAY: runs[DELAY], OURS: runs[name]}
        what = "accepted" if name == DEFAULT else "accepted and published"
        work = f"{MESSAGES:,} messages in a transaction, {what}"
        yield from compared(work, pair, "messages/s", against=DELAY, target=TARGET)


def _timed(servers: Rig, name: str, way: Callable[[], int]) -> float:
    client = redis.Redis.from_url(servers.broker)
    for key in client.scan_iter(f"{QUEUE}*"):
        client.delete(key)
    with db.engine.begin() as connection:
        connection.execute(text("TRUNCATE outbox"))
    began = time.perf_counter()
    inserts = way()
    seconds = time.perf_counter() - began
    published = sum(client.llen(key) for key in client.scan_iter(f"{QUEUE}*"))
    if name != DEFAULT and published != MESSAGES:
        raise RuntimeError(f"{name}: {published} of {MESSAGES} messages are in the broker")
    said = f"{MESSAGES / seconds:.0f}/s, {published} published by the producer"
    print(f"   {name}: {said}, {inserts} INSERT", flush=True)
    return MESSAGES / seconds


def _delay(servers: Rig) -> int:
    task = servers.app.extensions["celery"].tasks[NOTHING]
    for number in range(MESSAGES):
        task.delay(number)
    return 0


def _delay_on_commit(servers: Rig, bounds: Bounds) -> int:
    """How many INSERT statements it took; more than one is none of what is promised."""
    celery = servers.app.extensions["celery"]
    celery.conf.outbox_bounds = bounds
    task = celery.tasks[NOTHING]
    inserts: list[str] = []

    def count(*arguments: object) -> None:
        statement = str(arguments[2])
        if statement.lstrip().startswith("INSERT INTO outbox"):
            inserts.append(statement)

    event.listen(db.engine, "before_cursor_execute", count)
    try:
        for number in range(MESSAGES):
            task.delay_on_commit(number)
        db.session.commit()
    finally:
        event.remove(db.engine, "before_cursor_execute", count)
        db.session.remove()
    if len(inserts) != 1:
        raise RuntimeError(f"{len(inserts)} INSERT statements for one transaction")
    return len(inserts)
