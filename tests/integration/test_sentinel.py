"""Broker, guards and schedule through a real Sentinel, and through its failover."""

from uuid import uuid4

import pytest
from flask import Flask
from kombu import pools
from redbeat.schedulers import get_redis
from redis import Redis
from redis.exceptions import RedisError

from shared.app_factory import create_app
from shared.models import db
from shared.queueing import guard
from tests.fixtures.broker_servers import SentinelGroup, sentinel_group
from tests.fixtures.waiting import eventually
from worker.beat_schedule import beat_settings

__all__ = ["sentinel_group"]


@pytest.fixture
def app(database_uri: str, sentinel_group: SentinelGroup, monkeypatch: pytest.MonkeyPatch):
    """An application that knows the Sentinel by its broker's URL alone."""
    monkeypatch.setenv("SQLALCHEMY_DATABASE_URI", database_uri)
    for name, value in sentinel_group.variables.items():
        monkeypatch.setenv(name, value)
    made = create_app()
    made.extensions["celery"].conf.update(beat_settings(made.extensions["settings"]))
    yield made
    made.extensions["redis"].close()
    pools.reset()
    with made.app_context():
        db.engine.dispose()


def publish(app: Flask) -> None:
    app.extensions["celery"].send_task("probe.done", queue="dataset")


def test_everything_finds_the_primary_and_after_a_failover_the_new_one(
    app: Flask, sentinel_group: SentinelGroup
) -> None:
    redis: Redis = app.extensions["redis"]
    schedule = get_redis(app.extensions["celery"])
    before, after = uuid4(), uuid4()

    publish(app)
    assert guard.acquire(redis, [(before, 1)], 60) == {before}
    assert schedule.ping()
    primary = sentinel_group.primary.url.removesuffix("/0") + "/1"
    with Redis.from_url(primary, decode_responses=True) as direct:
        assert direct.llen("dataset") == 1, "the broker wrote to the primary, database 1"
        assert direct.get(guard.key(before)) == "1"
        direct.execute_command("WAIT", 1, 5000)

    sentinel_group.primary.kill()

    def promoted() -> bool:
        try:
            return redis.info("server")["tcp_port"] == sentinel_group.replica_port
        except RedisError:
            return False

    eventually(promoted, 30)
    publish(app)
    assert redis.llen("dataset") == 2, "nothing was lost, and the broker writes to the new primary"
    assert guard.held(redis, before)
    assert guard.acquire(redis, [(after, 1)], 60) == {after}
    assert schedule.ping()
