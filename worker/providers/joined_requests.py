"""Texts of many calls, joined into requests as large as the provider takes.

Where a process does many tasks at a time each has a few texts, and a request costs the
provider, its rate and this process about the same for few as for many. One goes out when it
is full, when everybody who could join waits already, or after a fraction of the time that
requests take.

What one call's texts do to a request the others in it do not suffer: each is asked for
again by itself. What says nothing of the texts, a rate or a server that is away, is
everybody's.
"""

import copy
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue

from shared.errors import (
    RagWorkerError,
    RateLimited,
    ServiceAway,
    ServiceUnavailable,
    Transient,
    UnexpectedFailure,
)
from worker.providers.embedding_requests import Outcome, RequestEmbedder
from worker.providers.joined_calls import Call, Share, fill, shared_out

#: How long a text waits for company: the part of a request's time, and the most.
_WAIT_FRACTION = 0.25
_MOST_WAIT_SECONDS = 0.025
#: How long a call waits for its first request.
_SLOT_SECONDS = 120.0
_NEWEST_WEIGHT = 0.2

_Answered = tuple[Sequence[Share], Outcome]


class Pace:
    """How long requests take, of late."""

    def __init__(self) -> None:
        self._seconds = 0.0

    @property
    def wait_seconds(self) -> float:
        """How long waiting for company is worth it."""
        return min(self._seconds * _WAIT_FRACTION, _MOST_WAIT_SECONDS)

    def note(self, seconds: float) -> None:
        """Count one more."""
        self._seconds += (seconds - self._seconds) * _NEWEST_WEIGHT


class JoinedRequests:
    """The calls of some moments: a thread of its own joins them, and ends with the last one.

    All that changes is changed by that thread. A caller only puts something into its queue,
    so wherever one is interrupted, nothing is half done.

    Args:
        embedder: asks the provider.
        company: how many there are, at most, whose calls may come at the same time.
        pace: of the requests.
    """

    def __init__(self, embedder: RequestEmbedder, company: Callable[[], int], pace: Pace) -> None:
        self._embedder = embedder
        self._limits = embedder.limits
        self._company = company
        self._pace = pace
        self._pid = os.getpid()
        self._ending = threading.Lock()
        self._is_over = False
        self._news: SimpleQueue[Call | _Answered] = SimpleQueue()
        self._calls: set[Call] = set()
        self._waiting: deque[Call] = deque()
        self._alone: deque[Share] = deque()
        self._running = 0

    def take(self, call: Call) -> bool:
        """Take a call; false when this has ended already, or in another process."""
        with self._ending:
            if self._is_over or self._pid != os.getpid():
                return False
            self._news.put(call)
            return True

    def leave(self, call: Call) -> None:
        """Send nothing more of a call that nobody waits for any more."""
        if not call.is_over:
            call.is_over = True
            self._news.put(call)

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._run, name="embedding-requests", daemon=True).start()

    def _run(self) -> None:
        pool = ThreadPoolExecutor(self._limits.requests)
        try:
            while self._hear():
                self._send(pool)
        except Exception as error:  # noqa: BLE001 - no thread, no memory: the callers say it
            self._end_all(ServiceUnavailable(f"requests cannot be sent: {error}"))
        finally:
            pool.shutdown(wait=False)

    def _hear(self) -> bool:
        """Wait for news, or until something is due; false when nobody is left."""
        if not self._calls:
            with self._ending:
                self._is_over = self._news.empty()
                if self._is_over:
                    return False
        try:
            self._note(self._news.get(timeout=self._idle_seconds()))
            while not self._news.empty():
                self._note(self._news.get())
        except Empty:
            self._turn_away()
        return True

    def _idle_seconds(self) -> float | None:
        if not self._waiting:
            return None
        is_busy = self._running == self._limits.requests
        most = _SLOT_SECONDS if is_busy else self._pace.wait_seconds
        return max(self._waiting[0].came_at + most - time.monotonic(), 0.001)

    def _note(self, news: Call | _Answered) -> None:
        if not isinstance(news, Call):
            self._running -= 1
            shares, outcome = news
            for share, mine in shared_out(shares, outcome):
                self._hand_out(share, mine, is_joined=len(shares) > 1)
        elif news.is_over:
            self._end_if_done(news)
        else:
            self._calls.add(news)
            self._waiting.append(news)

    def _hand_out(self, share: Share, outcome: Outcome, *, is_joined: bool) -> None:
        call, error = share.call, outcome.failure
        call.under_way -= 1
        if error is not None and is_joined and not call.is_over and _may_be_of_texts(error):
            made = {place for part in outcome.parts for place in part.positions}
            made.update(outcome.refused)
            self._alone.append(Share(call, [one for one in share.places if one not in made]))
            call.under_way += 1
            outcome.failure = None
        elif error is not None:
            call.is_over = True
            # Each caller raises its own: a traceback grows where an error is raised.
            outcome.failure = copy.copy(error)
        call.outcomes.put(outcome)
        self._end_if_done(call)

    def _end_if_done(self, call: Call) -> None:
        if call.is_sent and not call.under_way and call in self._calls:
            self._calls.discard(call)
            call.outcomes.put(None)

    def _send(self, pool: ThreadPoolExecutor) -> None:
        while self._running < self._limits.requests:
            shares = self._next()
            if not shares:
                return
            self._running += 1
            pool.submit(shares[0].call.inside, self._ask, shares)

    def _next(self) -> list[Share]:
        while self._alone:
            share = self._alone.popleft()
            if not share.call.is_over:
                return [share]
            share.call.under_way -= 1
            self._end_if_done(share.call)
        while self._waiting and self._waiting[0].is_sent:
            self._waiting.popleft()
        shares, is_full = fill(self._waiting, self._limits)
        if not shares or not (is_full or self._is_due()):
            return []
        for share in shares:
            share.call.sent += len(share.places)
            share.call.under_way += 1
        return shares

    def _is_due(self) -> bool:
        waited = time.monotonic() - self._waiting[0].came_at
        return waited >= self._pace.wait_seconds or len(self._calls) >= self._company()

    def _turn_away(self) -> None:
        """Let go who waited for so long that the provider must be too slow for all of them."""
        while self._waiting and time.monotonic() - self._waiting[0].came_at > _SLOT_SECONDS:
            call = self._waiting.popleft()
            if not call.is_sent:
                call.is_over = True
                words = f"all requests of this worker were busy for {_SLOT_SECONDS:g} s"
                error = RateLimited(f"{words} (EMBEDDING_CONCURRENCY)", retry_after_seconds=1.0)
                call.outcomes.put(Outcome(failure=error))
                self._end_if_done(call)

    def _ask(self, shares: Sequence[Share]) -> None:
        """Send one request, in a thread of the pool."""
        outcome = Outcome(failure=ServiceUnavailable("the request was broken off"))
        began = time.monotonic()
        try:
            outcome = self._embedder.ask(
                [share.call.texts[place] for share in shares for place in share.places],
                [share.call.tokens[place] for share in shares for place in share.places],
            )
        except Exception as error:  # noqa: BLE001 - a defect is the callers' to report
            outcome.failure = UnexpectedFailure(f"unexpected {type(error).__name__}: {error}")
        finally:
            if outcome.failure is None:
                self._pace.note(time.monotonic() - began)
            self._news.put((shares, outcome))

    def _end_all(self, error: RagWorkerError) -> None:
        with self._ending:
            self._is_over = True
            while not self._news.empty():
                news = self._news.get()
                if isinstance(news, Call):
                    self._calls.add(news)
        for call in self._calls:
            call.is_over = True
            call.outcomes.put(Outcome(failure=copy.copy(error)))
            call.outcomes.put(None)


def _may_be_of_texts(error: RagWorkerError) -> bool:
    """Whether the same request without some of its texts may succeed, now."""
    if isinstance(error, RateLimited | ServiceAway):
        return False
    return not (isinstance(error, Transient) and error.retry_after_seconds is not None)
