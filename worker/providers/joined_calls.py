"""Calls of an embedder, and their shares in requests that they send together."""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

from shared.queueing import task_context
from worker.providers.embedder import Embeddings, Part
from worker.providers.embedding_requests import Outcome, RequestLimits

_LOOK_SECONDS = 1.0


def _do(work: Callable[..., Any], *args: Any) -> Any:
    return work(*args)


@dataclass(eq=False, slots=True)
class Call:
    """One call's texts on their way to vectors.

    Attributes:
        texts: all of them.
        tokens: of each.
        inside: does work as a part of the task that called, in another thread.
        came_at: on the monotonic clock, in seconds.
        outcomes: what comes of its requests, then ``None``.
        sent: how many of its texts, from the first on, are in requests.
        under_way: how many requests have texts of it.
        is_over: nothing more of it is sent: it failed, or nobody waits for it any more.
    """

    texts: Sequence[str]
    tokens: Sequence[int]
    inside: Callable[..., Any] = field(default_factory=lambda: task_context.in_this_context(_do))
    came_at: float = field(default_factory=time.monotonic)
    outcomes: "SimpleQueue[Outcome | None]" = field(default_factory=SimpleQueue)
    sent: int = 0
    under_way: int = 0
    is_over: bool = False

    def arrivals(self) -> Iterator[Outcome]:
        """What comes of it, as it comes."""
        while True:
            try:
                # A thread that waits in C is interrupted when that returns, not before.
                found = self.outcomes.get(timeout=_LOOK_SECONDS)
            except Empty:
                continue
            if found is None:
                return
            yield found

    @property
    def is_sent(self) -> bool:
        """Whether nothing of it waits for a request."""
        return self.is_over or self.sent == len(self.texts)


@dataclass(frozen=True, slots=True)
class Share:
    """Texts of one call in a request.

    Attributes:
        call: whose.
        places: of the texts in their call, ascending.
    """

    call: Call
    places: Sequence[int]


def fill(calls: Iterable[Call], limits: RequestLimits) -> tuple[list[Share], bool]:
    """The shares of the next request, and whether it takes no more; changes nothing."""
    shares: list[Share] = []
    texts = tokens = 0
    for call in calls:
        if call.is_sent:
            continue
        end = call.sent
        while end < len(call.texts):
            cost = call.tokens[end]
            if texts == limits.texts or (texts and tokens + cost > limits.tokens):
                break
            texts, tokens, end = texts + 1, tokens + cost, end + 1
        if end > call.sent:
            shares.append(Share(call, range(call.sent, end)))
        if end < len(call.texts):
            return shares, True
    return shares, texts == limits.texts or tokens >= limits.tokens


def shared_out(shares: Sequence[Share], outcome: Outcome) -> Iterator[tuple[Share, Outcome]]:
    """What came of each share, by the places in its call; the failure of those it left out."""
    first = 0
    for share in shares:
        end = first + len(share.places)
        mine = Outcome(
            refused=[share.places[one - first] for one in outcome.refused if first <= one < end]
        )
        done = len(mine.refused)
        for part in outcome.parts:
            rows = slice(bisect_left(part.positions, first), bisect_left(part.positions, end))
            places = [share.places[one - first] for one in part.positions[rows]]
            if places:
                made = Embeddings(part.embeddings.vectors[rows], part.embeddings.tokens[rows])
                mine.parts.append(Part(places, made))
                done += len(places)
        if done < len(share.places):
            mine.failure = outcome.failure
        yield share, mine
        first = end
