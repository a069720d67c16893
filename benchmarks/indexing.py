"""Indexing against LangChain, LlamaIndex, Haystack and the bare parts; then the same again.

``python -m benchmarks indexing`` indexes real HTML pages and PDFs with the model that runs in
the process. Every contender has two processes, and all write to one PostgreSQL. Then each is
given the same files again, unchanged and with a hundredth of them changed.
``python -m benchmarks.indexing --pages 1000 --pdfs 20 --rounds 5`` takes other sizes.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.contenders import FLOOR, FRAMEWORKS, Took, contender, database, material
from benchmarks.report import OURS, Figure, compared, rounds
from benchmarks.stack import Ours, stack
from shared.models import db

#: Those that skip what has not changed.
INCREMENTAL = ("LangChain", "LlamaIndex")
PAGES, PDFS, PDF_PAGES = 1000, 20, 20

#: Files and a table in; seconds and segments out.
Index = Callable[[Sequence[Path], str], tuple[float, int]]


def figures(budget_seconds: float) -> Iterator[Figure]:
    """Documents a second, first and again."""
    yield from measured(rounds(budget_seconds * 0.6, at_least=1), PAGES, PDFS)


def measured(turns: Iterator[int], pages: int, pdfs: int) -> Iterator[Figure]:
    """The figures of so many rounds."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as opened:
        folder = Path(name)
        files = material(folder / "files", pages, pdfs, PDF_PAGES)
        opened.enter_context(stack(folder))
        all_of_them = contenders(opened)
        for index in all_of_them.values():
            index([*files[:20], *files[-2:]], "warm")
        first: dict[str, list[float]] = {}
        passages: dict[str, list[float]] = {}
        number = 0
        for number in turns:
            for contestant, index in all_of_them.items():
                seconds, segments = index(files, f"round_{number}")
                first.setdefault(contestant, []).append(len(files) / seconds)
                passages.setdefault(contestant, []).append(segments / seconds)
                print(f"  {contestant}: {seconds:.2f} s, {segments:,} segments", flush=True)
        work = f"index {pages:,} HTML pages and {pdfs} PDFs"
        yield from against_all(work, first, target=2)
        yield from in_passages(work, passages)
        again = {one: all_of_them[one] for one in (OURS, *INCREMENTAL)}
        yield from _again(files, again, f"round_{number}")


def contenders(opened: ExitStack) -> dict[str, Index]:
    """All, with their processes started: rag-worker's worker is running."""
    uri = db.engine.url.render_as_string(hide_password=False)
    peers = opened.enter_context(database(uri, "peers"))
    made: dict[str, Index] = {OURS: Ours().index}
    for name in (FLOOR, *FRAMEWORKS):
        made[name] = partial(_indexed, opened.enter_context(contender(name, peers)).index)
    return made


def _indexed(
    index: Callable[[Sequence[Path], str], Took], files: Sequence[Path], table: str
) -> tuple[float, int]:
    took = index(files, table)
    return took.seconds, took.segments


def against_all(work: str, rates: dict[str, list[float]], target: float) -> Iterator[Figure]:
    """Ours against the best framework, the frameworks beside it, and against the floor."""
    frameworks = {one: found for one, found in rates.items() if one in FRAMEWORKS}
    best = max(frameworks, key=lambda one: statistics.median(frameworks[one]))
    ours = {OURS: rates[OURS]}
    yield from compared(work, ours | frameworks, "documents/s", against=best, target=target)
    floor = {FLOOR: rates[FLOOR]}
    yield from compared(
        f"{work}, and the floor", ours | floor, "documents/s", against=FLOOR, target=0.85
    )


def in_passages(work: str, rates: dict[str, list[float]]) -> Iterator[Figure]:
    """The same turns in what was written: of a document one makes more passages than another."""
    without_floor = {one: found for one, found in rates.items() if one != FLOOR}
    best = max(FRAMEWORKS, key=lambda one: statistics.median(rates[one]))
    yield from compared(f"{work}, in passages", without_floor, "passages/s", against=best)


def _again(files: Sequence[Path], all_of_them: dict[str, Index], table: str) -> Iterator[Figure]:
    unchanged: dict[str, list[float]] = {}
    changed: dict[str, list[float]] = {}
    html = [one for one in files if one.suffix == ".html"]
    some = html[:: max(1, len(html) * 100 // len(files))]
    for number in range(2):
        for contestant, index in all_of_them.items():
            unchanged.setdefault(contestant, []).append(index(files, table)[0])
        for one in some:
            content = one.read_text("utf-8")
            sentence = f"<p>Revision {number} says something else about this module.</p>"
            one.write_text(content.replace("</body>", f"{sentence}</body>"), "utf-8")
        for contestant, index in all_of_them.items():
            changed.setdefault(contestant, []).append(index(files, table)[0])
    for work, runs, target in (
        (f"index {len(files):,} documents again, unchanged", unchanged, 10),
        (f"index {len(files):,} documents again, {len(some)} of them changed", changed, 5),
    ):
        best = min(INCREMENTAL, key=lambda one: statistics.median(runs[one]))
        yield from compared(work, runs, "s", against=best, target=target, is_more_better=False)


def main() -> int:
    """Measure with other sizes; 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pages", type=int, default=PAGES, help="at most 1,300")
    parser.add_argument("--pdfs", type=int, default=PDFS)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    found = []
    for one in measured(iter(range(options.rounds)), options.pages, options.pdfs):
        ratio = "" if one.ratio is None else f"{one.ratio:.2f} times {one.against}"
        print(f"{one.work}: {one.contender} {one.value:.2f} {one.unit} {ratio}", flush=True)
        found.append(one)
    return 1 if any(one.is_missed for one in found) else 0


if __name__ == "__main__":
    sys.exit(main())
