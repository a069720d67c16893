"""Runs benchmarks one after another, and shows and keeps what they found.

``python -m benchmarks`` runs all of them within ``--minutes``; names choose some. Figures
are printed as a table, and kept as JSON and as a chart in the folder of ``--keep``. With
``--record`` they also become the figures of ``docs/performance.md`` and the README's chart.
It ends with 1 when a benchmark failed, and with ``--strict`` also when a target was missed.
"""

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from benchmarks.report import Figure, markdown, table

_ROOT = Path(__file__).parents[1]
_PACKAGES = (
    "celery",
    "kombu",
    "redis",
    "SQLAlchemy",
    "psycopg2-binary",
    "gevent",
    "rq",
    "dramatiq",
)
_MARKS = "<!-- figures: written by python -m benchmarks --record -->", "<!-- end of figures -->"


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A module of this package, and its part of the time."""

    name: str
    share: float


ALL = (
    Benchmark("tasks", 60),
    Benchmark("results", 70),
    Benchmark("publishing", 10),
    Benchmark("scaling", 25),
    # With less than 70 s it would have to shorten what it measures.
    Benchmark("recovery", 110),
    Benchmark("indexing", 200),
    Benchmark("vector_insert", 30),
    Benchmark("search", 45),
    Benchmark("growth", 60),
    Benchmark("indexing_remote", 80),
    Benchmark("indexing_memory", 85),
    Benchmark("fairness", 40),
    Benchmark("mail", 30),
    Benchmark("traces", 40),
    Benchmark("answers", 45),
)


#: Of its part of the time, however long those before it took: with less, figures say little.
_LEAST_PART = 0.6


def main() -> int:
    """Run, show, keep."""
    options = _options()
    began = time.monotonic()
    chosen = [one for one in ALL if not options.names or one.name in options.names]
    figures: list[Figure] = []
    failed: list[str] = []
    for number, one in enumerate(chosen):
        budget_seconds = options.seconds or _budget_seconds(chosen[number:], began, options)
        found = _found(one.name, budget_seconds, is_part=bool(options.part_of))
        if found is None:
            failed.append(one.name)
        figures += found or []
    seconds = time.monotonic() - began
    if options.part_of:
        _write_json(figures, seconds, options.part_of / "figures.json")
        return 1 if failed else 0
    _show(figures, seconds, failed)
    if figures:
        _keep(figures, seconds, options)
    missed = any(one.is_missed for one in figures)
    return 1 if failed or (options.strict and missed) else 0


def _budget_seconds(left: Sequence[Benchmark], began: float, options: argparse.Namespace) -> float:
    """The next one's part: what one takes beyond its own is missing to all that come after it."""
    whole_seconds = 60 * float(options.minutes)
    part_seconds = whole_seconds * left[0].share / sum(one.share for one in ALL)
    if options.names:  # it takes what it takes in a whole run
        return part_seconds
    left_seconds = whole_seconds - (time.monotonic() - began)
    ours_seconds = left_seconds * left[0].share / sum(one.share for one in left)
    return max(ours_seconds, _LEAST_PART * part_seconds)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=(__doc__ or "").partition("\n")[0]
    )
    names = [one.name for one in ALL]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--minutes", type=float, default=12.0, help="for all of them")
    parser.add_argument("--seconds", type=float, help="for each of those named, instead")
    parser.add_argument("--keep", type=Path, default=_ROOT / ".rag-worker" / "benchmarks")
    parser.add_argument("--part-of", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--record", action="store_true", help="write them into docs/")
    parser.add_argument("--strict", action="store_true", help="end with 1 for a missed target")
    options = parser.parse_args()
    unknown = set(options.names) - set(names)
    if unknown:
        parser.error(f"no benchmark: {', '.join(sorted(unknown))}; there are: {', '.join(names)}")
    if options.record and options.names:
        parser.error("--record takes the figures of a whole run: name no benchmark")
    return options


def _found(name: str, budget_seconds: float, *, is_part: bool) -> list[Figure] | None:
    """A benchmark's figures; ``None`` when it failed."""
    if is_part:
        return list(_printed(importlib.import_module(f"benchmarks.{name}"), budget_seconds))
    print(f"\n== {name}: about {budget_seconds:.0f} s", flush=True)
    began = time.monotonic()
    try:
        return _in_own_process(name, budget_seconds)
    except RuntimeError as error:
        print(f"== {name} failed: {error}", file=sys.stderr, flush=True)
        return None
    finally:
        print(f"== {name} took {time.monotonic() - began:.0f} s", flush=True)


def _printed(module: Any, budget_seconds: float) -> Iterator[Figure]:
    for one in module.figures(budget_seconds):
        print(f"   {one.work}: {one.contender} {one.value:.4g} {one.unit}", flush=True)
        yield one


def _in_own_process(name: str, budget_seconds: float) -> list[Figure]:
    # What one leaves behind (its environment, patched drivers, warm caches) is not the next one's.
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks", name, "--seconds", str(budget_seconds)]
        ended = subprocess.run([*command, "--part-of", folder], check=False)
        if ended.returncode:
            raise RuntimeError(f"it ended with {ended.returncode}")
        kept = json.loads((Path(folder) / "figures.json").read_text("utf-8"))
    return [Figure.from_json(one) for one in kept["figures"]]


def _show(figures: list[Figure], seconds: float, failed: list[str]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table(figures))
    missed = [f"{one.work} ({one.contender})" for one in figures if one.is_missed]
    print(f"in all {seconds / 60:.1f} minutes")
    if missed:
        print(f"below its target: {'; '.join(missed)}")
    if failed:
        print(f"failed: {', '.join(failed)}")


def _keep(figures: list[Figure], seconds: float, options: argparse.Namespace) -> None:
    options.keep.mkdir(parents=True, exist_ok=True)
    _write_json(figures, seconds, options.keep / "figures.json")
    try:
        from benchmarks.chart import draw

        draw(figures, options.keep / "figures.svg")
        draw(figures, options.keep / "figures.png")
    except ImportError:
        print("no chart: matplotlib is in the group `bench` (make bench installs it)")
    print(f"kept in {os.path.relpath(options.keep)}")
    if options.record:
        _record(figures, seconds)


def _record(figures: list[Figure], seconds: float) -> None:
    from benchmarks.chart import draw

    docs = _ROOT / "docs"
    _write_json(figures, seconds, docs / "performance.json")
    draw(figures, docs / "performance.svg")
    page = docs / "performance.md"
    head, _, rest = page.read_text("utf-8").partition(_MARKS[0])
    _, _, tail = rest.partition(_MARKS[1])
    about = ", ".join(f"{name} {value}" for name, value in _machine().items())
    body = f"{datetime.now(UTC):%Y-%m-%d}, {seconds / 60:.1f} minutes; {about}.\n\n"
    page.write_text(f"{head}{_MARKS[0]}\n\n{body}{markdown(figures)}\n\n{_MARKS[1]}{tail}", "utf-8")
    print("recorded in docs/performance.md, .json and .svg")


def _write_json(figures: list[Figure], seconds: float, path: Path) -> None:
    whole = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "machine": _machine(),
        "figures": [one.as_json() for one in figures],
    }
    path.write_text(json.dumps(whole, indent=1) + "\n", "utf-8")


def _machine() -> dict[str, str]:
    gigabytes = psutil.virtual_memory().total / 1e9
    return {
        "cores": str(os.cpu_count()),
        "memory": f"{gigabytes:.0f} GB",
        "architecture": platform.machine(),
        "Python": platform.python_version(),
        **{name: found for name in _PACKAGES if (found := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main())
