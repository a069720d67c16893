"""What a benchmark hands back, and how all of them are shown.

A benchmark is a module of this package with::

    def figures(budget_seconds: float) -> Iterable[Figure]:
        ...

and a row in ``benchmarks.__main__``, which runs each in a process of its own. It chooses
sizes and rounds so that it takes about ``budget_seconds`` on two idle cores, lets its
contenders take turns (A B A B) within each round, and yields a figure for each contender as
soon as it is known; what it prints on the way is shown. It raises when the work was not done
rightly: a figure of wrong work is none. ``compared`` makes the figures of contenders
from what each round gave::

    rates = {"ours": [], "plain": []}
    for _ in rounds(budget_seconds):
        for name in rates:
            rates[name].append(measure(name))
    yield from compared("no-op tasks, prefork", rates, "tasks/s", against="plain", target=0.95)
"""

import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

OURS = "rag-worker"


@dataclass(frozen=True, slots=True)
class Figure:
    """One contender's result at one kind of work.

    Attributes:
        work: what was done, the same for all contenders.
        contender: who did it; ``OURS`` is rag-worker.
        value: the median of the runs.
        unit: of ``value`` and ``spread``.
        spread: the lowest and the highest run.
        ratio: how many times better than ``against`` it is: above 1 is faster, smaller,
            cheaper, whatever the unit. ``None`` where there is nothing to compare with.
        target: the least ``ratio`` that is promised.
        against: whom ``ratio`` compares with.
        runs: how many there were.
    """

    work: str
    contender: str
    value: float
    unit: str
    spread: tuple[float, float]
    ratio: float | None = None
    target: float | None = None
    against: str = ""
    runs: int = 1

    @property
    def is_missed(self) -> bool:
        """Whether it promises more than it reached."""
        return self.target is not None and (self.ratio is None or self.ratio < self.target)

    @classmethod
    def of(
        cls,
        work: str,
        contender: str,
        values: Sequence[float],
        unit: str,
        *,
        ratio: float | None = None,
        target: float | None = None,
        against: str = "",
    ) -> "Figure":
        """The figure of several runs.

        Raises:
            ValueError: there is no run.
        """
        if not values:
            raise ValueError(f"{work}: no run of {contender}")
        spread = (min(values), max(values))
        median = statistics.median(values)
        return cls(work, contender, median, unit, spread, ratio, target, against, len(values))

    def as_json(self) -> dict[str, Any]:
        """Plain values; ``from_json`` reads them."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> "Figure":
        """What ``as_json`` wrote."""
        low, high = found["spread"]
        return cls(**{**found, "spread": (low, high)})


def compared(
    work: str,
    runs: Mapping[str, Sequence[float]],
    unit: str,
    *,
    against: str,
    target: float | None = None,
    is_more_better: bool = True,
) -> Iterator[Figure]:
    """A figure for each contender, with its ratio to one of them.

    The ratio is the median of the rounds' ratios: a minute in which the machine was slow
    hit both contenders of a round. Contenders with another number of rounds are compared by
    their medians.

    Args:
        work: what was done.
        runs: each contender's values, one a round.
        unit: of the values.
        against: the contender that the others are compared with.
        target: the least ratio of ``OURS``.
        is_more_better: false for seconds and bytes.
    """
    for contender, values in runs.items():
        is_other = contender != against
        yield Figure.of(
            work,
            contender,
            values,
            unit,
            ratio=_ratio(values, runs[against], is_more_better=is_more_better)
            if is_other
            else None,
            target=target if contender == OURS else None,
            against=against if is_other else "",
        )


def _ratio(ours: Sequence[float], theirs: Sequence[float], *, is_more_better: bool) -> float:
    if len(ours) == len(theirs):
        ratio = statistics.median(one / other for one, other in zip(ours, theirs, strict=True))
    else:
        ratio = statistics.median(ours) / statistics.median(theirs)
    return ratio if is_more_better else 1 / ratio


def rounds(budget_seconds: float, at_least: int = 2, at_most: int = 9) -> Iterator[int]:
    """Count rounds as long as another one like the longest so far fits in the budget."""
    began, longest = time.monotonic(), 0.0
    for number in range(at_most):
        started = time.monotonic()
        if number >= at_least and started - began + longest > budget_seconds:
            return
        yield number
        longest = max(longest, time.monotonic() - started)


def table(figures: Iterable[Figure]) -> Table:
    """All figures, for a terminal."""
    made = Table("work", "contender", title="median of the runs; a ratio above 1 is better")
    for name in ("value", "lowest", "highest", "runs", "ratio", "target"):
        made.add_column(name, justify="right")
    made.add_column("against")
    before = None
    for one in figures:
        if one.work != before:
            made.add_section()
        work, before = one.work if one.work != before else "", one.work
        style = "bold" if one.contender == OURS else None
        made.add_row(work, *_cells(one), one.against, style="red" if one.is_missed else style)
    return made


def markdown(figures: Iterable[Figure]) -> str:
    """All figures, for the documentation."""
    lines = [
        "| work | contender | median | lowest to highest (runs) | ratio | target |",
        "| --- | --- | ---: | --- | ---: | ---: |",
    ]
    for one in figures:
        contender, value, low, high, runs, ratio, target = _cells(one)
        spread = f"{low} to {high} ({runs})"
        compared_with = f"{ratio} of {one.against}" if ratio else ""
        lines.append(
            f"| {one.work} | {contender} | {value} | {spread} | {compared_with} | {target} |"
        )
    return "\n".join(lines)


def _cells(one: Figure) -> tuple[str, ...]:
    return (
        one.contender,
        f"{number(one.value)} {one.unit}",
        number(one.spread[0]),
        number(one.spread[1]),
        str(one.runs),
        "" if one.ratio is None else f"{number(one.ratio)}",
        "" if one.target is None else f"{one.target:.3g}",
    )


def number(value: float) -> str:
    """Three digits that mean something, without an exponent."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
