"""Plays a plan of faults on the running system, and prints what was lost.

``python -m tests.chaos.run --documents 1000 --faults 100 --seed 7 --baseline``
"""

import argparse
import heapq
import itertools
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.chaos.baseline import Baseline
from tests.chaos.checks import Kind, Violation
from tests.chaos.clients import Clients
from tests.chaos.documents import expected_hashes
from tests.chaos.faults import FAULTS, NotNow
from tests.chaos.plan import Order, PlannedFault, Round, Scale, make_plan
from tests.chaos.product import Product
from tests.chaos.report import Outcome, print_faults, print_outcomes, print_violations
from tests.chaos.servers import AWAY
from tests.chaos.system import (
    MakeSubject,
    System,
    all_violations,
    started_system,
    unsettled,
)

LEASE_SECONDS = 6.0
#: After the last fault all is well within a lease and this.
SETTLE_SECONDS = 30.0
_TICK_SECONDS = 0.05
_NOT_NOW_SECONDS = 0.5
_LOOK_SECONDS = 0.5


@dataclass
class Played:
    """How often each fault was played, and how often it met work in flight."""

    times: Counter[str] = field(default_factory=Counter)
    in_flight: Counter[str] = field(default_factory=Counter)


class Play:
    """Plays rounds at their times; the main thread does it all, for servers start from there."""

    def __init__(self, system: System, rounds: Sequence[Round], log: Path) -> None:
        self._system = system
        self._log = log
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._began = time.monotonic()
        self.played = Played()
        for one in rounds:
            for order in one.orders:
                self._at(one.orders_at_seconds, self._submission(order))
            self._at(one.fault_at_seconds, self._fault(one.fault))

    def run(self) -> None:
        """Play until the last fault is over."""
        while self._events:
            while self._events and self._events[0][0] <= time.monotonic() - self._began:
                heapq.heappop(self._events)[2]()
            self._system.tick()
            time.sleep(_TICK_SECONDS)

    def _at(self, seconds: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._events, (seconds, next(self._numbers), do))

    def _after(self, seconds: float, do: Callable[[], None]) -> None:
        self._at(time.monotonic() - self._began + seconds, do)

    def _submission(self, order: Order) -> Callable[[], None]:
        def submit() -> None:
            for clients in self._system.clients:
                clients.submit(order)

        return submit

    def _fault(self, fault: PlannedFault) -> Callable[[], None]:
        def begin() -> None:
            meets_work = bool(self._in_flight())
            try:
                begun = FAULTS[fault.name](self._system, fault)
            except (NotNow, *AWAY):
                self._after(_NOT_NOW_SECONDS, begin)
                return
            self.played.times[fault.name] += 1
            self.played.in_flight[fault.name] += meets_work
            self._note(fault.name)
            if begun is not None:
                seconds, end = begun
                self._after(seconds, self._noted_end(fault.name, end))

        return begin

    def _noted_end(self, name: str, end: Callable[[], None]) -> Callable[[], None]:
        def noted() -> None:
            end()
            self._note(f"{name}: over")

        return noted

    def _note(self, what: str) -> None:
        with self._log.open("a") as log:
            log.write(f"{datetime.now(UTC):%H:%M:%S.%f} {what}\n")

    def _in_flight(self) -> int:
        first = self._system.clients[0]
        try:
            with first.subject.engine.connect() as connection:
                return len(first.subject.messages(connection))
        except AWAY:
            return 1


@dataclass(slots=True)
class Rest:
    """How a system came to rest: after how many seconds, and what was last on its way."""

    seconds: float | None = None
    last: tuple[Violation, ...] = ()


def settle(system: System, limit_seconds: float, *, until_idle: bool = False) -> list[Rest]:
    """Wait until every system is at rest; one that is not in time has no seconds.

    Args:
        system: all of it.
        limit_seconds: how long that may take.
        until_idle: ask the workers as well: what they have in hand may concern no row.
    """
    began = time.monotonic()
    rests = [Rest() for _ in system.clients]
    while time.monotonic() < began + limit_seconds:
        system.tick()
        for clients, rest in zip(system.clients, rests, strict=True):
            if rest.seconds is None:
                _look(clients, rest, began, until_idle=until_idle)
        if all(rest.seconds is not None for rest in rests):
            break
        time.sleep(_LOOK_SECONDS)
    return rests


def _look(clients: Clients, rest: Rest, began: float, *, until_idle: bool) -> None:
    left = tuple(unsettled(clients))
    if not left and until_idle and not clients.subject.is_idle():
        left = (Violation(Kind.STUCK, clients.subject.name, "a message is in hand"),)
    if left:
        rest.last = left
    else:
        rest.seconds = time.monotonic() - began


def play(
    folder: Path,
    rounds: Sequence[Round],
    subjects: Sequence[MakeSubject],
    lease_seconds: float = LEASE_SECONDS,
    settle_seconds: float = SETTLE_SECONDS,
) -> tuple[Played, list[Outcome]]:
    """Run a plan from the first start to the last check."""
    _learn_expectations(rounds)
    limit_seconds = lease_seconds + settle_seconds
    with started_system(folder, subjects, lease_seconds) as system:
        acting = Play(system, rounds, folder / "faults.log")
        acting.run()
        settled = settle(system, limit_seconds)
        acting.played.times["the same message an hour later"] = max(
            clients.send_late() for clients in system.clients
        )
        settled_again = settle(system, limit_seconds, until_idle=True)
        outcomes = [
            _outcome(clients, rest, again)
            for clients, rest, again in zip(system.clients, settled, settled_again, strict=True)
        ]
    return acting.played, outcomes


def _learn_expectations(rounds: Sequence[Round]) -> None:
    # Before the first fault: the processor is needed for other things later.
    for one in rounds:
        for order in one.orders:
            for spec in order.documents:
                expected_hashes(spec)
        for _, spec in one.fault.updated:
            expected_hashes(spec)


def _outcome(clients: Clients, rest: Rest, again: Rest) -> Outcome:
    found: list[Violation] = all_violations(clients)
    return Outcome(
        name=clients.subject.name,
        accepted=len([one for one in clients.book.entries.values() if one.is_accepted]),
        deleted=len(clients.book.deleted()),
        statuses=clients.subject.statuses(),
        violations=tuple(found),
        settled_seconds=rest.seconds if again.seconds is not None else None,
        last_to_settle=rest.last,
    )


def main() -> int:
    """Play a long run; 1 when the product violated a promise."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--documents", type=int, default=1000)
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--baseline", action="store_true", help="play on the common recipe too")
    parser.add_argument("--only", action="append", choices=list(FAULTS), help="these faults only")
    parser.add_argument("--folder", type=Path, help="keep logs and data here")
    options = parser.parse_args()
    scale = Scale(options.documents, options.faults)
    rounds = make_plan(options.seed, scale, options.only or list(FAULTS))
    subjects: list[MakeSubject] = [Product, Baseline] if options.baseline else [Product]
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        played, outcomes = play(folder, rounds, subjects)
    print_faults(played.times, played.in_flight)
    print_outcomes(outcomes)
    print_violations(outcomes)
    print(f"seed {options.seed}, {time.monotonic() - began:.0f} s")
    return 0 if outcomes[0].is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
