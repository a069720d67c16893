"""What the relay and the sweeper ask the Redis broker beside publishing."""

import base64
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from kombu import Connection
from redis import Redis

#: Set once; missing, the broker has lost everything it was given.
EPOCH_KEY = "rag-worker:broker:epoch"
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message in the broker that no worker has taken.

    Attributes:
        has_row: whether it came from the outbox.
    """

    id: str
    task: str
    args: list[Any]
    kwargs: dict[str, Any]
    has_row: bool
    tenant_id: str | None
    _key: str
    _raw: bytes


def backlog(connection: Connection, queue: str) -> int:
    """How many messages wait in a queue, all priorities together."""
    pipeline = _client(connection).pipeline(transaction=False)
    for key in _keys(connection, queue):
        pipeline.llen(key)
    return sum(pipeline.execute())


def message_ids(connection: Connection, queue: str) -> set[str]:
    """The ids of the messages that wait in a queue; those a worker took are not among them."""
    return set[str]().union(*_pages(connection, queue))


def missing(connection: Connection, queues: Iterable[str], wanted: set[str]) -> set[str]:
    """Which of these messages wait in none of the queues; looks no further than it must."""
    left = set(wanted)
    for queue in queues:
        for found in _pages(connection, queue):
            left -= found
            if not left:
                return left
    return left


def waiting(connection: Connection, queue: str) -> Iterator[Waiting]:
    """The messages that wait in a queue, as they are now; those of unknown form are left out."""
    for key in _keys(connection, queue):
        for raw in cast("list[bytes]", _client(connection).lrange(key, 0, -1)):
            message = json.loads(raw)
            headers = message.get("headers", {})
            body = message.get("body", "")
            if message.get("properties", {}).get("body_encoding") == "base64":
                body = base64.b64decode(body)
            try:
                args, kwargs, *_ = json.loads(body)
            except (ValueError, TypeError):
                continue
            yield Waiting(
                id=str(headers.get("id")),
                task=str(headers.get("task")),
                args=args,
                kwargs=kwargs,
                has_row=bool(headers.get("outbox")),
                tenant_id=headers.get("tenant_id"),
                _key=key,
                _raw=raw,
            )


def take_out(connection: Connection, message: Waiting) -> bool:
    """Remove a message from its queue; ``False``: a worker has taken it."""
    return bool(_client(connection).lrem(message._key, 1, cast("str", message._raw)))  # noqa: SLF001


def remembers(connection: Connection) -> bool:
    """Whether the broker still has what it was given since ``remember``."""
    return bool(_client(connection).exists(EPOCH_KEY))


def remember(connection: Connection) -> None:
    """Leave the mark that a broker which loses everything loses too."""
    _client(connection).set(EPOCH_KEY, "1")


def _pages(connection: Connection, queue: str) -> Iterator[set[str]]:
    client = _client(connection)
    for key in _keys(connection, queue):
        start = 0
        while page := cast("list[bytes]", client.lrange(key, start, start + _PAGE - 1)):
            yield {_id(message) for message in page}
            start += _PAGE


def _id(message: bytes) -> str:
    return str(json.loads(message).get("headers", {}).get("id"))


def _client(connection: Connection) -> "Redis":
    channel: Any = connection.default_channel
    return cast("Redis", channel.client)


def _keys(connection: Connection, queue: str) -> list[str]:
    channel: Any = connection.default_channel
    prefix = getattr(channel, "global_keyprefix", "")
    # The transport's own client adds the prefix to what it sends.
    return [
        str(channel._q_for_pri(queue, step)).removeprefix(prefix)  # noqa: SLF001 - kombu names no other way
        for step in channel.priority_steps
    ]
