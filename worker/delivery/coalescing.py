"""Calls of many greenlets, carried out together.

Under gevent a hundred tasks share one core, and a round trip costs it more than what
the trip is about. A call that finds none under way goes out at once; those that come
meanwhile share the next. After a trip that was shared the next begins a moment later,
unless every task of the process waits for it: so where tasks are many they keep company,
and one that is alone never waits for any.
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from gevent import monkey

from worker.delivery import runs

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Answer = TypeVar("Answer")

#: More than a worker's usual concurrency, and few enough for a short statement.
MOST_TOGETHER = 100
#: From the beginning of a shared trip to the next one's.
PAUSE_SECONDS = 0.015
#: What an interrupted caller gives the group that carries its call.
_LAST_WAIT_SECONDS = 1.0

_thread_id: Callable[[], int] = monkey.get_original("_thread", "get_ident")


class Coalesced(Generic[Item, Answer]):
    """One kind of call.

    A caller that is interrupted while it waits takes its call back. One that is under way
    by then it sees to its end, so that nothing it does next can overtake it.

    Args:
        together: carries out many; gives an answer each, ``None`` for one that has to be
            done alone. It must not wait for anything that a single one of them would wait
            for, as a row's lock: all the others would wait too.
        pause_seconds: from the beginning of a shared trip to the next one's.
    """

    def __init__(
        self,
        together: Callable[[Sequence[Item]], Sequence[Answer | None]],
        pause_seconds: float = PAUSE_SECONDS,
    ) -> None:
        self._together = together
        self._pause_seconds = pause_seconds
        self._waiting: list[tuple[Item, Any]] = []
        self._is_under_way = False
        self._pause_ends = 0.0
        self._everybody_came: Any = None

    def __call__(self, item: Item) -> Answer | None:
        """The answer; ``None`` when the caller has to do it alone.

        So it is in every pool but gevent's, and when the whole group failed: what is
        wrong, and with whose call, shows then.
        """
        if not is_among_greenlets():
            return None
        # Here, not above: other pools need nothing of it.
        import gevent
        from gevent.event import AsyncResult

        answer: Any = AsyncResult()
        ticket = (item, answer)
        self._waiting.append(ticket)
        if not self._is_under_way:
            self._is_under_way = True
            gevent.spawn(self._carry_out)
        elif self._everybody_came is not None and self._is_everybody_here():
            self._everybody_came.set()
        try:
            found: Answer | None = answer.get()
        except BaseException:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
            else:
                answer.wait(_LAST_WAIT_SECONDS)
            raise
        return found

    def _carry_out(self) -> None:
        group: list[tuple[Item, Any]] = []
        try:
            while self._waiting:
                self._await_company()
                group, self._waiting = (
                    self._waiting[:MOST_TOGETHER],
                    self._waiting[MOST_TOGETHER:],
                )
                if not group:  # all of them were interrupted
                    break
                is_shared = len(group) > 1
                self._pause_ends = time.monotonic() + self._pause_seconds if is_shared else 0.0
                answers = self._together([item for item, _ in group])
                for (_, waiting), answer in zip(group, answers, strict=True):
                    waiting.set(answer)
        except Exception as error:  # noqa: BLE001 - each caller meets it by itself
            logger.info("not done together: %s", error, extra={"action": "coalescing.failed"})
        finally:
            left, self._waiting = [*group, *self._waiting], []
            self._is_under_way = False
            for _, waiting in left:
                if not waiting.ready():
                    waiting.set(None)

    def _await_company(self) -> None:
        left_seconds = self._pause_ends - time.monotonic()
        if left_seconds <= 0 or self._is_everybody_here():
            return
        from gevent.event import Event

        self._everybody_came = Event()
        try:
            self._everybody_came.wait(left_seconds)
        finally:
            self._everybody_came = None

    def _is_everybody_here(self) -> bool:
        return len(self._waiting) >= min(runs.number(), MOST_TOGETHER)


def is_among_greenlets() -> bool:
    """Whether the caller is a greenlet of the main thread's hub."""
    if not monkey.is_module_patched("threading"):
        return False
    from gevent.hub import MAIN_THREAD_IDENT  # type: ignore[attr-defined]

    return bool(_thread_id() == MAIN_THREAD_IDENT)
