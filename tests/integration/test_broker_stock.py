"""Messages that wait in the broker already are taken by the group, and none gets lost."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from kombu import Connection, Consumer, Queue
from kombu.asynchronous import Hub
from redis import Redis

from worker.delivery.broker_stock import MOST_TAKEN
from worker.delivery.broker_transport import Transport

QUEUES = [Queue("first", routing_key="first"), Queue("second", routing_key="second")]


@pytest.fixture
def broker(redis_url: str) -> Iterator["Redis"]:
    with contextlib.closing(Redis.from_url(redis_url)) as client:
        yield client


class Worker:
    """What consumes, as a worker with greenlets or threads does."""

    def __init__(self, url: str, prefetch: int) -> None:
        self.connection = Connection(url, transport=Transport)
        self.channel: Any = self.connection.channel()
        self.messages: list[Any] = []
        self.consumer = Consumer(
            self.channel, QUEUES, on_message=self.messages.append, auto_declare=False
        )
        self.consumer.qos(prefetch_count=prefetch)
        self.consumer.consume()

    def drain(self, messages: int) -> list[Any]:
        """Wait until so many have come; the content of all."""
        while len(self.messages) < messages:
            self.connection.drain_events(timeout=300)
        return self.contents()

    def contents(self) -> list[Any]:
        return [one.payload for one in self.messages]


@pytest.fixture
def worker(redis_url: str) -> Iterator[Any]:
    made: list[Worker] = []

    def make(prefetch: int = 100) -> Worker:
        made.append(Worker(redis_url, prefetch))
        return made[-1]

    yield make
    for one in made:
        one.connection.release()


def publish(url: str, queue: str, contents: list[Any], priority: int = 0) -> None:
    with Connection(url) as connection, connection.Producer() as producer:
        for content in contents:
            producer.publish(content, exchange="", routing_key=queue, priority=priority)


def waiting(broker: "Redis") -> int:
    keys = (key for key in broker.scan_iter() if broker.type(key) == b"list")
    return sum(int(broker.llen(key)) for key in keys)


def commands(broker: "Redis") -> dict[str, int]:
    found: Any = broker.info("commandstats")
    return {name.removeprefix("cmdstat_"): values["calls"] for name, values in found.items()}


def test_a_stock_is_taken_in_its_order_with_few_round_trips(
    redis_url: str, broker: "Redis", worker: Any
) -> None:
    publish(redis_url, "first", [f"a{number}" for number in range(30)])
    publish(redis_url, "second", [f"b{number}" for number in range(10)])
    publish(redis_url, "second", ["urgent"], priority=9)
    one = worker()
    broker.config_resetstat()
    came = one.drain(41)
    used = commands(broker)

    ours = [[one for one in came if one.startswith(name)] for name in "abu"]
    assert ours == [
        [f"a{number}" for number in range(30)],
        [f"b{number}" for number in range(10)],
        ["urgent"],
    ]
    assert used["brpop"] <= 2, "the first, and the one that nothing answers"
    assert used["evalsha"] <= 41 / MOST_TAKEN + 5, used
    assert waiting(broker) == 0
    assert broker.hlen("unacked") == broker.zcard("unacked_index") == 41

    for message in one.messages:
        message.ack()
    assert broker.hlen("unacked") == broker.zcard("unacked_index") == 0


def test_queues_take_turns_within_a_priority(redis_url: str, worker: Any) -> None:
    publish(redis_url, "first", ["a"] * 50)
    publish(redis_url, "second", ["b"] * 50)
    came = worker(21).drain(21)

    assert 9 <= came.count("b") <= 12, came


def test_no_more_are_taken_than_there_is_room_for(
    redis_url: str, broker: "Redis", worker: Any
) -> None:
    publish(redis_url, "first", list(range(20)))
    one = worker(4)
    assert sorted(one.drain(4)) == [0, 1, 2, 3]
    with contextlib.suppress(TimeoutError):
        one.connection.drain_events(timeout=0.1)
    assert (len(one.messages), waiting(broker)) == (4, 16)

    for message in one.messages[:3]:
        message.ack()
    assert sorted(one.drain(7)) == list(range(7))
    assert waiting(broker) == 13


def test_what_was_taken_and_not_acknowledged_comes_back(
    redis_url: str, broker: "Redis", worker: Any
) -> None:
    publish(redis_url, "first", list(range(8)))
    one = worker()
    one.drain(8)
    one.messages[0].ack()
    one.connection.release()

    assert broker.hlen("unacked") == 0
    assert sorted(worker().drain(7)) == list(range(1, 8))


def test_a_consumer_that_fails_loses_none_of_the_messages_taken_with_its_own(
    redis_url: str, broker: "Redis", worker: Any
) -> None:
    publish(redis_url, "first", list(range(8)))
    one = worker()
    taken: list[Any] = []

    def fail_at_the_third(message: Any) -> None:
        taken.append(message)
        if len(taken) == 3:
            raise RuntimeError("broken")

    one.consumer.on_message = fail_at_the_third
    with pytest.raises(RuntimeError, match="broken"):
        one.drain(8)
    one.connection.release()

    assert (waiting(broker), broker.hlen("unacked")) == (8, 0)


def test_a_broker_whose_memory_is_full_gives_away_nothing(
    redis_url: str, broker: "Redis", worker: Any
) -> None:
    publish(redis_url, "first", list(range(8)))
    one = worker()
    one.drain(1)
    broker.config_set("maxmemory", 1)
    try:
        one.channel.stock.expect()
        assert one.channel.stock.deliver() is False
    finally:
        broker.config_set("maxmemory", 0)
    unacked: Any = broker.hlen("unacked")
    assert waiting(broker) + unacked == 8


def test_an_event_loop_gets_one_after_the_other(redis_url: str, worker: Any) -> None:
    publish(redis_url, "first", list(range(5)))
    one = worker()
    loop = Hub()
    one.connection.register_with_event_loop(loop)
    turns = loop.create_loop()
    while len(one.messages) < 5:
        next(turns)
    loop.close()

    assert one.contents() == list(range(5))


def test_what_is_no_message_is_left_where_it_is(
    redis_url: str, broker: "Redis", worker: Any
) -> None:
    publish(redis_url, "first", [1, 2])
    broker.lpush("first", "no message", json.dumps({"body": "of another system"}))
    one = worker()
    one.channel.stock.expect()
    assert one.channel.stock.deliver() is True
    assert one.contents() == [1, 2]

    one.channel.stock.expect()
    assert one.channel.stock.deliver() is False
    assert waiting(broker) == 2
