"""Messages that leave in one round trip: what Celery sends, and none lost with a connection."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from celery import Celery
from flask import Flask
from redis import Redis

from tests.fixtures.outbox_rows import MakeRelay, Outbox

MESSAGES = 250


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def celery(app: Flask) -> Celery:
    made: Celery = app.extensions["celery"]
    return made


def in_queue(redis: Redis, queue: str = "dataset") -> list[dict[str, Any]]:
    """The messages of the first priority, oldest first."""
    raw: Any = redis.lrange(queue, 0, -1)
    return [json.loads(one) for one in reversed(raw)]


def told_apart(message: dict[str, Any], message_id: str) -> str:
    """A message without what is another's each time it is sent."""
    message["properties"].pop("delivery_tag")
    return json.dumps(message, sort_keys=True).replace(message_id, "ID")


def test_a_message_is_what_celery_sends(
    rows: Outbox, make_relay: MakeRelay, redis: Redis, celery: Celery
) -> None:
    tenant = uuid4()
    rows.fill(tenant, 1)
    (row,) = rows.rows()
    make_relay().run_pass()
    (ours,) = in_queue(redis)
    redis.delete("dataset")
    task_id = str(uuid4())
    celery.send_task(
        "probe.quiet",
        args=["filled"],
        kwargs={},
        task_id=task_id,
        queue="dataset",
        priority=0,
        retries=0,
        headers={"outbox": True, "tenant_id": str(tenant)},
    )

    assert told_apart(ours, str(row.id)) == told_apart(in_queue(redis)[0], task_id)


def test_a_backlog_leaves_in_order_and_once_also_after_the_connection_was_cut(
    rows: Outbox, make_relay: MakeRelay, redis: Redis
) -> None:
    relay = make_relay(tenant_cap=1000)
    rows.fill(uuid4(), 1)
    relay.run_pass()
    redis.delete("dataset")
    # The relay's own among them, which it keeps from pass to pass.
    redis.client_kill_filter(_type="normal", skipme=True)
    for _ in range(MESSAGES):
        rows.fill(uuid4(), 1)

    assert relay.run_pass().published == MESSAGES

    sent = [UUID(one["headers"]["id"]) for one in in_queue(redis)]
    waiting = rows.rows("lease_expires_at IS NULL")[1:]
    assert len(sent) == MESSAGES
    assert set(sent) == {row.id for row in waiting}
    assert all(row.published_at is not None for row in waiting)


def test_those_that_cannot_be_published_keep_nobody_of_their_batch(
    rows: Outbox, make_relay: MakeRelay, redis: Redis
) -> None:
    for number in range(150):
        rows.fill(uuid4(), 1, task="probe.poison" if number % 50 == 7 else "probe.quiet")
    rows.change("UPDATE outbox SET args = '{\"a\": 1}' WHERE task = 'probe.poison'")

    assert make_relay(tenant_cap=1000).run_pass().published == 147

    assert len(in_queue(redis)) == 147
    assert len(rows.rows("published_at IS NULL AND error LIKE '%TypeError%'")) == 3
