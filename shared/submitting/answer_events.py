"""An answer as it is made: the events that its readers get, and the Redis stream that has them.

An entry of the stream has five fields: ``t`` the kind, ``k`` the lease token of whoever
wrote it, ``s`` its number among all that owner wrote, ``e`` the characters of the
answer up to its end, ``d`` its content, text of a chunk and JSON of any other.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from uuid import UUID

from redis import Redis
from redis.exceptions import RedisError

KEEP_SECONDS = 3600


class EventKind(StrEnum):
    """What a reader of an answer is told."""

    STARTED = "started"  #: a worker has the question
    SOURCES = "sources"  #: the passages the answer is made from, numbered as it cites them
    CHUNK = "chunk"  #: more of the answer
    RESTARTED = "restarted"  #: it begins again: drop every chunk so far
    WAITING = "waiting"  #: it was put back, and will be tried again; ``reason`` says why
    ENDED = "ended"  #: the last one, with the whole message as the database has it
    HEARTBEAT = "heartbeat"  #: nothing new; the connection is alive


@dataclass(frozen=True, slots=True)
class AnswerEvent:
    """One event.

    Attributes:
        id: what ``read_answer(after=…)`` resumes behind; ``None``: nothing was written.
        data: ``text`` of a chunk, ``sources``, ``reason``; of the end the whole message.
    """

    kind: EventKind
    id: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the stream."""

    id: str
    kind: EventKind
    token: int
    end: int
    content: str

    @classmethod
    def read(cls, entry_id: "str | bytes", fields: Mapping[Any, Any]) -> "Entry":
        """An entry as a client has it, decoded or not."""
        plain = {_text(name): _text(value) for name, value in fields.items()}
        return cls(
            id=_text(entry_id),
            kind=EventKind(plain["t"]),
            token=int(plain["k"]),
            end=int(plain["e"]),
            content=plain["d"],
        )

    def event(self) -> AnswerEvent:
        """What a reader gets."""
        if self.kind is EventKind.CHUNK:
            return AnswerEvent(self.kind, self.id, {"text": self.content})
        data = json.loads(self.content) if self.content else {}
        return AnswerEvent(self.kind, self.id, data)


def stream_key(message_id: UUID) -> str:
    """The stream of one answer."""
    return f"answer_{message_id}"


def announce_end(redis: "Redis", message_id: UUID, token: int) -> None:
    """Tell readers that an answer ended which nobody works on; a courtesy, the row is the truth."""
    fields: dict[Any, Any] = {"t": EventKind.ENDED.value, "k": token, "s": 0, "e": 0, "d": ""}
    try:
        redis.xadd(stream_key(message_id), fields)
        redis.expire(stream_key(message_id), KEEP_SECONDS)
    except RedisError:
        return


def _text(value: "str | bytes") -> str:
    return value.decode() if isinstance(value, bytes) else value
