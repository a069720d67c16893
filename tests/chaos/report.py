"""The table."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.chaos.checks import Kind, Violation

_SHOWN = 25


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one system's documents."""

    name: str
    accepted: int
    deleted: int
    #: Documents by status.
    statuses: Mapping[str, int]
    violations: tuple[Violation, ...]
    #: From the end of the last fault; ``None`` when it did not come to rest in time.
    settled_seconds: float | None
    #: What was on its way when it was looked at for the last time before it came to rest.
    last_to_settle: tuple[Violation, ...]

    @property
    def is_clean(self) -> bool:
        """Whether every promise was kept."""
        return not self.violations and self.settled_seconds is not None

    def documents(self, kind: Kind) -> int:
        """How many documents a kind of violation concerns."""
        return len({one.key for one in self.violations if one.kind is kind})


def print_faults(times: Counter[str], in_flight: Counter[str]) -> None:
    """How often each fault was played."""
    print(f"\n{'fault':34}{'times':>6}{'  met work in flight':>20}")
    for name, number in sorted(times.items()):
        print(f"{name:34}{number:>6}{in_flight[name]:>20}")


def print_outcomes(outcomes: Sequence[Outcome]) -> None:
    """A line a system."""
    columns = ["accepted", "completed", "error", "deleted", *Kind, "settled"]
    print("\n" + " " * 32 + "".join(f"{column:>10}" for column in columns))
    for one in outcomes:
        numbers: list[object] = [
            one.accepted,
            one.statuses.get("completed", 0),
            one.statuses.get("error", 0),
            one.deleted,
            *(one.documents(kind) for kind in Kind),
            "no" if one.settled_seconds is None else f"{one.settled_seconds:.1f} s",
        ]
        print(f"{one.name:32}" + "".join(f"{number:>10}" for number in numbers))


def print_violations(outcomes: Sequence[Outcome]) -> None:
    """The first ones of each system, in words."""
    for one in outcomes:
        _print_first(f"{one.name}: last to settle", one.last_to_settle, 3)
        # What is on its way is many and tells little: what went wrong for good comes first.
        found = sorted(one.violations, key=lambda violation: violation.kind is Kind.STUCK)
        _print_first(f"{one.name}: violations", found, _SHOWN)


def _print_first(title: str, found: Sequence[Violation], most: int) -> None:
    if found:
        print(f"\n{title}: {len(found)}")
    for one in found[:most]:
        print(f"  {one.kind}: {one.key}: {one.message}")
