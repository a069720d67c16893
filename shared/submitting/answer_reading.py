"""An answer is read while it is made, from its Redis stream; how it ended, from the database."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.errors import AnswerNotEnded, InvalidRequest, NotFound
from shared.models.conversation import UNFINISHED
from shared.submitting.answer_events import AnswerEvent, Entry, EventKind, stream_key
from shared.submitting.ids import AnyId, checked_id

#: What the last event's id is: to resume behind it is to be told the end again.
END = "end"
_ID = re.compile(r"\d{1,20}-\d{1,20}")
_ENTRIES = 500
#: Of one wait in Redis; the client's own time-out is two by default.
_STEP_SECONDS = 1.0
#: Between two looks at the row while the stream says nothing.
_FIRST_LOOK_SECONDS, _RAREST_LOOK_SECONDS = 1.0, 5.0
_ROW = text("""
    SELECT id, conversation_id, tenant_id, position, question, status, answer, sources, model,
           is_extractive, cut_by, restarts, input_tokens, output_tokens, error, lease_token
    FROM messages WHERE id = :id
""")
_SHOWN = (
    *("conversation_id", "position", "status", "answer", "sources", "model", "is_extractive"),
    *("cut_by", "restarts", "input_tokens", "output_tokens", "error"),
)


@dataclass(slots=True)
class _Seen:
    """How much of the answer the reader has: whose, and up to which character."""

    token: int | None = None
    end: int = 0
    #: What it has is not known any more: whatever comes next begins anew.
    is_unknown: bool = False


def read_answer(
    message_id: AnyId,
    *,
    sessions: Callable[[], Session],
    redis: "Redis",
    after: str | None = None,
    timeout_seconds: float = 600.0,
    heartbeat_seconds: float = 15.0,
) -> Iterator[AnswerEvent]:
    """The events of an answer, from its beginning or behind the one with the id ``after``.

    It waits in Redis, one connection a reader, and looks into the database once in a
    while: the end comes also when Redis lost everything. Chunks in their order, from the
    last ``restarted`` on if there is one, make the answer; the end has it whole.

    Args:
        message_id: what ``ask`` returned.
        sessions: opens a session on rag-worker's database; none is held while waiting.
        redis: any client of the Redis of the settings.
        after: the last event's id, to resume.
        timeout_seconds: the longest to read for.
        heartbeat_seconds: when nothing happens for so long, a ``heartbeat`` comes.

    Raises:
        NotFound: there is no such message.
        InvalidRequest: an id is none.
        AnswerNotEnded: (transient) the time is over; read on from the last id.
    """
    message_id = checked_id("message_id", message_id)
    if after not in {None, "", END} and not _ID.fullmatch(str(after)):
        raise InvalidRequest(f"after: {after!r} is no event's id")
    if _row(message_id, sessions) is None:
        raise NotFound(f"there is no message {message_id}")
    reading = _Reading(message_id, sessions, redis, heartbeat_seconds)
    return reading.events(after or None, time.monotonic() + timeout_seconds)


class _Reading:
    def __init__(
        self,
        message_id: UUID,
        sessions: Callable[[], Session],
        redis: "Redis",
        heartbeat_seconds: float,
    ) -> None:
        self._message_id = message_id
        self._sessions = sessions
        self._redis: Any = redis
        self._heartbeat_seconds = heartbeat_seconds
        self._key = stream_key(message_id)
        self._cursor = "0"
        self._seen = _Seen()
        timeout = redis.connection_pool.connection_kwargs.get("socket_timeout")
        self._step_seconds = min(_STEP_SECONDS, timeout / 2) if timeout else _STEP_SECONDS

    def events(self, after: str | None, deadline: float) -> Iterator[AnswerEvent]:
        """All of them."""
        if after == END:
            row = _row(self._message_id, self._sessions)
            if row is None or row.status not in UNFINISHED:
                yield self._end(row)
                return
            self._seen.is_unknown = True  # it is answered again
        elif after is not None:
            self._resume(after)
        quiet_since = looked = time.monotonic()
        pause = _FIRST_LOOK_SECONDS
        while time.monotonic() < deadline:
            entries = self._read()
            for event in self._events_of(entries):
                yield event
                quiet_since, pause = time.monotonic(), _FIRST_LOOK_SECONDS
            is_told = bool(entries) and entries[-1].kind is EventKind.ENDED
            now = time.monotonic()
            if is_told or (not entries and now - max(looked, quiet_since) >= pause):
                row = _row(self._message_id, self._sessions)
                if row is None or row.status not in UNFINISHED:
                    yield from self._ending(row)
                    return
                looked, pause = now, min(2 * pause, _RAREST_LOOK_SECONDS)
            if now - quiet_since >= self._heartbeat_seconds:
                yield AnswerEvent(EventKind.HEARTBEAT)
                quiet_since = time.monotonic()
        raise AnswerNotEnded

    def _resume(self, after: str) -> None:
        try:
            found = self._redis.xrange(self._key, after, after)
        except RedisError:
            found = []
        if found:
            last = Entry.read(*found[0])
            self._cursor, self._seen = last.id, _Seen(last.token, last.end)
        else:  # lost, or expired
            self._seen.is_unknown = True

    def _read(self) -> list[Entry]:
        try:
            found = self._redis.xread(
                {self._key: self._cursor}, count=_ENTRIES, block=int(self._step_seconds * 1000)
            )
        except RedisError:
            threading.Event().wait(self._step_seconds)
            return []
        # A list of streams, or a dictionary of them: by the protocol's version.
        streams = found.items() if isinstance(found, dict) else found or []
        entries = [Entry.read(*one) for _, batch in streams for one in _flat(batch)]
        if entries:
            self._cursor = entries[-1].id
        return entries

    def _events_of(self, entries: list[Entry]) -> Iterator[AnswerEvent]:
        for entry in entries:
            if entry.kind is EventKind.ENDED:
                continue  # the row says how
            event = entry.event()
            if self._must_restart(entry):
                yield AnswerEvent(EventKind.RESTARTED, data={"reason": "stream"})
            self._seen = _Seen(entry.token, entry.end)
            yield event

    def _must_restart(self, entry: Entry) -> bool:
        """Whether this does not follow on what the reader has, without saying so itself."""
        if entry.kind is EventKind.RESTARTED:
            return False
        is_another = self._seen.end > 0 and self._seen.token != entry.token
        return self._seen.is_unknown or is_another

    def _ending(self, row: Any) -> Iterator[AnswerEvent]:
        """What the reader lacks, and the end, from the row."""
        answer, seen = row.answer or "" if row is not None else "", self._seen
        is_same = row is not None and seen.token == row.lease_token and seen.end <= len(answer)
        if answer and not (is_same and seen.end):
            if seen.end or seen.is_unknown:
                yield AnswerEvent(EventKind.RESTARTED, data={"reason": "stream"})
            yield AnswerEvent(EventKind.SOURCES, data={"sources": row.sources})
            yield AnswerEvent(EventKind.CHUNK, data={"text": answer})
        elif seen.end < len(answer):
            yield AnswerEvent(EventKind.CHUNK, data={"text": answer[seen.end :]})
        yield self._end(row)

    @staticmethod
    def _end(row: Any) -> AnswerEvent:
        data = {"status": "deleted"} if row is None else shown(row)
        return AnswerEvent(EventKind.ENDED, END, data)


def _flat(batch: Any) -> Any:
    return batch[0] if batch and isinstance(batch[0], list) else batch


def shown(row: Any) -> dict[str, Any]:
    """A message's row as readers get it."""
    plain = {name: getattr(row, name) for name in _SHOWN}
    return {"message_id": str(row.id), **plain, "conversation_id": str(row.conversation_id)}


def _row(message_id: UUID, sessions: Callable[[], Session]) -> Any:
    with sessions() as session:
        return session.execute(_ROW, {"id": message_id}).one_or_none()
