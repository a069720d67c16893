"""Celery's configuration, held against a real broker."""

import pytest
from celery.exceptions import QueueNotFound
from flask import Flask
from kombu.exceptions import ContentDisallowed, SerializationError
from redis import Redis

from shared.contract import DOCUMENT_INDEXING, QUEUES, TASKS


@pytest.fixture
def redis(app: Flask) -> Redis:
    client: Redis = app.extensions["redis"]
    return client


@pytest.mark.parametrize("queue", ["nope", "celery", "Dataset"])
def test_a_queue_nobody_serves_is_an_error_at_publish(queue: str, app: Flask, redis: Redis) -> None:
    celery = app.extensions["celery"]
    celery.loader.import_default_modules()
    task = celery.tasks[DOCUMENT_INDEXING.name]

    with pytest.raises(QueueNotFound, match=f"'{queue}' missing from task_queues"):
        task.apply_async(["dataset", ["document"]], queue=queue)
    with pytest.raises(QueueNotFound):
        celery.send_task("probe.unknown", queue=queue)

    assert redis.dbsize() == 0


def test_a_task_nobody_routed_goes_to_a_queue_that_is_served(app: Flask, redis: Redis) -> None:
    app.extensions["celery"].send_task("probe.unrouted")

    assert redis.llen("dataset") == 1


@pytest.mark.parametrize("contract", TASKS, ids=lambda contract: contract.name)
def test_every_task_goes_to_its_queue_by_its_name_alone(contract, app: Flask, redis: Redis) -> None:
    app.extensions["celery"].send_task(contract.name, args=["x"] * len(contract.ids))

    assert {queue: redis.llen(queue) for queue in QUEUES if redis.llen(queue)} == {
        contract.queue: 1
    }


@pytest.mark.parametrize("serializer", ["pickle", "yaml"])
def test_a_worker_takes_nothing_but_json_from_the_broker(serializer: str, app: Flask) -> None:
    celery = app.extensions["celery"]
    with celery.connection_for_write() as connection:
        channel = connection.channel()
        connection.Producer(channel).publish({"a": 1}, serializer=serializer, routing_key="dataset")
        taken: list[object] = []
        consumer = celery.amqp.TaskConsumer(
            channel, callbacks=[lambda body, _message: taken.append(body)]
        )
        with consumer, pytest.raises(ContentDisallowed):
            connection.drain_events(timeout=300)

    assert taken == []


def test_what_json_cannot_say_is_an_error_at_publish(app: Flask, redis: Redis) -> None:
    with pytest.raises((SerializationError, TypeError)):
        app.extensions["celery"].send_task(TASKS[0].name, args=[object()])

    assert redis.dbsize() == 0 or redis.llen("dataset") == 0


def test_a_message_goes_when_its_work_is_done(app: Flask) -> None:
    conf = app.extensions["celery"].conf

    assert (conf.task_acks_late, conf.task_reject_on_worker_lost) == (True, True)
    assert conf.worker_prefetch_multiplier == 1
    assert conf.broker_transport_options["visibility_timeout"] > conf.task_time_limit
    assert conf.accept_content == ["json"]
    assert (conf.timezone, conf.enable_utc) == ("UTC", True)
