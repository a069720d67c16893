"""Answers as Redis streams: written in batches, and by their newest owner only.

Each entry carries the lease token of who wrote it. The script that appends looks at the
last entry: a higher token there fences the writer out; a stream that does not end where
the writer left off was lost, and is written anew. What the entries mean is in
``shared.submitting.answer_events``.
"""

import logging
import os
import threading
import time
from collections.abc import Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from redis import Redis
from redis.exceptions import RedisError

from shared.errors import LeaseLost
from shared.submitting.answer_events import EventKind, stream_key

logger = logging.getLogger(__name__)

#: Written at once by one call of the script, which holds Redis up for a millisecond or so.
_STREAMS = 64
_PAUSE_AFTER_FAILURE_SECONDS = 0.5
#: An answer that has ended is in the database: its stream is not worth waiting for longer.
_LATEST_SECONDS = 30.0

_APPEND = """
local answers = {}
for i, key in ipairs(KEYS) do
  local batch = cjson.decode(ARGV[i + 1])
  local token, begins = batch.token, batch.begins
  local last = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
  local seen = {k = '0', s = '0', e = '0'}
  if last then
    for j = 1, #last[2], 2 do seen[last[2][j]] = last[2][j + 1] end
  end
  local owner, number = tonumber(seen.k), tonumber(seen.s)
  local answer, there = 'ok', 0
  if owner == token then there = math.max(0, number - batch.first + 1) end
  if owner > token then
    answer = 'fenced'
  elseif not begins and (owner < token or number + 1 < batch.first) then
    answer = 'lost'
  else
    for j = there + 1, #batch.entries do
      local kind, ends, content = unpack(batch.entries[j])
      if kind == 'started' then
        local was_shown = tonumber(seen.e) > 0
        if was_shown or (not last and not batch.is_first) then
          kind, content = 'restarted', '{"reason":"worker"}'
        end
      end
      redis.call('XADD', key, '*', 't', kind, 'k', token, 's', batch.first + j - 1,
                 'e', ends, 'd', content)
    end
    redis.call('EXPIRE', key, ARGV[1])
  end
  answers[i] = answer
end
return answers
"""

#: An entry's kind, the answer's characters up to its end, and its content.
Written = tuple[EventKind, int, str]


@dataclass(frozen=True, slots=True)
class Batch:
    """Entries of one stream that are written together, and the same as the script takes it."""

    stream: "AnswerStream"
    packed: bytes
    entries: list[Written]


class AnswerStream:
    """One owner's writing to one answer's stream; made by ``AnswerStreams.open``.

    Writing never waits for Redis; one that does not answer costs the display, never the work.
    """

    def __init__(
        self, streams: "AnswerStreams", message_id: UUID, token: int, attempt: int
    ) -> None:
        self._streams = streams
        self.key = stream_key(message_id)
        self._token = token
        self._is_first = attempt == 1
        self._lock = threading.Lock()
        self._sources: Sequence[dict[str, Any]] | None = None
        self._texts: list[str] = []
        self._end = 0
        #: Entries not written yet; the first of them may be in Redis all the same.
        self._pending: list[Written] = []
        self._uncertain = 0
        #: The number of the first of them.
        self._first = 1
        self._begins = True
        self._is_fenced = False
        self.ended_at: float | None = None

    def start(self) -> None:
        """Say that the work began; after a part that was shown, that it began again."""
        self._add(EventKind.STARTED, "")

    def show_sources(self, sources: Sequence[dict[str, Any]]) -> None:
        """Say what the answer is made from."""
        self._sources = sources
        self._add(EventKind.SOURCES, _json({"sources": sources}))

    def write(self, text: str) -> None:
        """Add to the answer.

        Raises:
            LeaseLost: (superseded) another worker writes it.
        """
        if self._is_fenced:
            raise LeaseLost(f"{self.key}: token {self._token} is no longer the newest")
        with self._lock:
            self._texts.append(text)
            self._end += len(text)
        self._add(EventKind.CHUNK, text)

    def wait(self, reason: str) -> None:
        """Say that the work stopped, and will be tried again."""
        self._add(EventKind.WAITING, _json({"reason": reason}))
        self.ended_at = time.monotonic()

    def end(self) -> None:
        """Say that the answer ended; its row, committed before, says how."""
        self._add(EventKind.ENDED, "")
        self.ended_at = time.monotonic()

    def _add(self, kind: EventKind, content: str) -> None:
        with self._lock:
            last = self._pending[-1] if len(self._pending) > self._uncertain else None
            if last is not None and last[0] is kind is EventKind.CHUNK:
                self._pending[-1] = (kind, self._end, last[2] + content)
            else:
                self._pending.append((kind, self._end, content))
        self._streams.wake(self)

    def take(self) -> "Batch | None":
        """What is to be written now; ``None``: nothing."""
        with self._lock:
            taken, self._pending, self._uncertain = self._pending, [], 0
        if not taken or self._is_fenced:
            return None
        batch = {
            "token": self._token,
            "begins": self._begins,
            "is_first": self._is_first,
            "first": self._first,
            "entries": taken,
        }
        return Batch(self, orjson.dumps(batch), taken)

    def put_back(self, taken: list[Written]) -> None:
        """It is not known whether that was written."""
        with self._lock:
            self._pending, self._uncertain = taken + self._pending, len(taken)

    def settle(self, taken: list[Written], answer: str) -> None:
        """What the script said of it."""
        if answer == "fenced":
            self._is_fenced = True
        elif answer == "lost":
            self._rewrite(taken)
        else:
            self._first += len(taken)
            self._begins = False

    def _rewrite(self, taken: list[Written]) -> None:
        """Begin anew with all there was: the stream is gone, with what readers could resume by."""
        others = [one for one in taken if one[0] in {EventKind.WAITING, EventKind.ENDED}]
        with self._lock:
            entries = [(EventKind.RESTARTED, 0, _json({"reason": "stream"}))]
            if self._sources is not None:
                entries.append((EventKind.SOURCES, 0, _json({"sources": self._sources})))
            if self._texts:
                entries.append((EventKind.CHUNK, self._end, "".join(self._texts)))
            later = [one for one in self._pending if one[0] in {EventKind.WAITING, EventKind.ENDED}]
            self._pending, self._uncertain = entries + others + later, 0
            self._begins = True
        self._streams.wake(self)


class AnswerStreams:
    """Every stream of a process, and the thread that writes them, many with one call.

    Args:
        redis: the server.
        keep_seconds: how long a stream outlives its last entry.
        flush_seconds: how long what comes is gathered; the first of it goes out at once.
    """

    def __init__(self, redis: "Redis", keep_seconds: int, flush_seconds: float) -> None:
        self._redis = redis
        self._script: Any = redis.register_script(_APPEND)
        self._keep_seconds = keep_seconds
        self._flush_seconds = flush_seconds
        self._dirty: dict[AnswerStream, None] = {}
        self._woken = threading.Event()
        self._pid: int | None = None

    def open(self, message_id: UUID, token: int, attempt: int) -> AnswerStream:
        """The stream of an answer, for the owner of its lease.

        Args:
            message_id: whose answer.
            token: the lease's.
            attempt: which pick-up it is, from 1.
        """
        self._ensure_running()
        return AnswerStream(self, message_id, token, attempt)

    def wake(self, stream: AnswerStream) -> None:
        """There is something to write."""
        self._dirty[stream] = None
        self._woken.set()

    def _ensure_running(self) -> None:
        if self._pid == os.getpid():
            return
        # After a fork: the parent's thread is not here, and its streams are not ours.
        self._pid = os.getpid()
        self._dirty, self._woken = {}, threading.Event()
        thread = threading.Thread(target=self._run, name="answer-streams", daemon=True)
        # It outlives the task it is started in.
        Context().run(thread.start)

    def _run(self) -> None:
        while True:
            self._woken.wait()
            self._woken.clear()
            try:
                self.flush()
            except RedisError as error:
                logger.warning(
                    "answers are not shown: %s", error, extra={"action": "answer.not_shown"}
                )
                time.sleep(_PAUSE_AFTER_FAILURE_SECONDS)
            except Exception:
                logger.exception("answers are not shown", extra={"action": "answer.not_shown"})
                time.sleep(_PAUSE_AFTER_FAILURE_SECONDS)
            time.sleep(self._flush_seconds)

    def flush(self) -> None:
        """Write what there is.

        Raises:
            RedisError: Redis does not answer; it stays to be written.
        """
        dirty, self._dirty = self._dirty, {}
        batches = [batch for stream in dirty if (batch := stream.take()) is not None]
        while batches:
            now, later = batches[:_STREAMS], batches[_STREAMS:]
            try:
                answers = self._script(
                    keys=[batch.stream.key for batch in now],
                    args=[self._keep_seconds, *(batch.packed for batch in now)],
                )
            except RedisError:
                self._put_back(batches)
                raise
            for batch, answer in zip(now, answers, strict=True):
                text = answer if isinstance(answer, str) else answer.decode()
                batch.stream.settle(batch.entries, text)
            batches = later

    def _put_back(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            batch.stream.put_back(batch.entries)
            if batch.stream.ended_at is None or _is_recent(batch.stream.ended_at):
                self.wake(batch.stream)


def _is_recent(ended_at: float) -> bool:
    return time.monotonic() - ended_at < _LATEST_SECONDS


def _json(content: Any) -> str:
    return orjson.dumps(content).decode()
