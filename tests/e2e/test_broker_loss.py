"""A worker outlives its broker, also with tasks in hand."""

from urllib.parse import urlsplit, urlunsplit

from flask import Flask
from redis import Redis
from sqlalchemy.orm import Session

from shared.queueing import outbox
from tests.chaos.proxy import Proxy
from tests.e2e.delivery_tasks import BEGUN, ENDED
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker

SECONDS = 300
STEPS = 60


def test_connections_that_are_cut_again_and_again_end_no_worker_and_no_task(
    app: Flask, session: Session, redis_url: str, start_worker: StartWorker
) -> None:
    redis: Redis = app.extensions["redis"]
    parts = urlsplit(redis_url)
    with Proxy(parts.port or 0) as proxy:
        login = parts.netloc.rpartition("@")[0]
        through = urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{proxy.port}"))
        worker = start_worker(
            *("prefork", 2, "-I", "tests.e2e.delivery_tasks"), CELERY_BROKER_URL=through
        )
        for name in ("first", "second"):
            outbox.write(session, "tests.steps", [name, STEPS], celery=app.extensions["celery"])
        session.commit()
        eventually(lambda: redis.llen(BEGUN) == 2, SECONDS)
        connected = worker.output().count("Connected to")
        proxy.cut()
        eventually(lambda: worker.output().count("Connected to") > connected, SECONDS)
        # Whatever the worker is doing by now to find its feet again.
        proxy.cut()

        eventually(lambda: set(redis.lrange(ENDED, 0, -1)) == {"first", "second"}, SECONDS)
        result = app.extensions["celery"].send_task("tests.alive")

        assert result.get(timeout=SECONDS) == 1
        assert worker.process.poll() is None
        assert "Unrecoverable" not in worker.output()
