"""The memory that one file takes, and how it grows with the file: a text, a PDF.

``python -m benchmarks.indexing_memory --text-megabytes 1000 --pdf-pages 5000`` takes other sizes;
a size of 0 leaves that kind out, and ``--only ours`` the others. Each contender has one process
for it, fresh for each kind; the small file is indexed first (``--fraction 10``: a tenth of the
large one), then the large one. rag-worker's figure is the sum of its worker's processes, of those
that parse too.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from itertools import cycle
from pathlib import Path

import psutil

from benchmarks.contenders import FRAMEWORKS, contender, database, material
from benchmarks.report import OURS, Figure, compared
from benchmarks.stack import Ours, stack
from shared.models import db

TEXT_MEGABYTES, PDF_PAGES = 4, 200
#: How much smaller the small file is.
FRACTION = 4
_LIMITS = {
    "INDEXING_MAX_FILE_BYTES": str(4 * 1024**3),
    "INDEXING_MAX_SEGMENTS": "10000000",
}


def figures(budget_seconds: float) -> Iterator[Figure]:  # noqa: ARG001 - one turn is all
    """Megabytes."""
    yield from measured(TEXT_MEGABYTES, PDF_PAGES, tuple(FRAMEWORKS), FRACTION)


def measured(
    text_megabytes: int, pdf_pages: int, frameworks: tuple[str, ...], fraction: int
) -> Iterator[Figure]:
    """The figures of these sizes, and of files so many times smaller."""
    for kind, unit, size in (("text", "MB", text_megabytes), ("PDF", "pages", pdf_pages)):
        if size:
            yield from _of_kind(kind, unit, (size // fraction, size), frameworks)


def _of_kind(
    kind: str, unit: str, sizes: tuple[int, int], frameworks: tuple[str, ...]
) -> Iterator[Figure]:
    peaks: dict[int, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as name, ExitStack() as opened:
        folder = Path(name)
        opened.enter_context(stack(folder, ("-c", "1"), 1, **_LIMITS))
        uri = db.engine.url.render_as_string(hide_password=False)
        peers = opened.enter_context(database(uri, "peers"))
        others = {
            one: opened.enter_context(contender(one, peers, processes=1)) for one in frameworks
        }
        ours = Ours()
        for one_size in sizes:
            file = _text(folder, one_size) if kind == "text" else _pdf(folder, one_size)
            ours.index([file], f"{kind}_{one_size}")
            found = peaks.setdefault(one_size, {OURS: [_worker_megabytes()]})
            for contestant, one in others.items():
                took = one.index([file], f"{kind}_{one_size}".lower())
                found[contestant] = [took.peak_bytes / 1e6]
            print(f"  {one_size} {unit}: {found}", flush=True)
            file.unlink()
    for one_size, found in peaks.items():
        best = min(found, key=lambda one: (one == OURS, found[one]))
        work = f"memory to index a {kind} of {one_size} {unit}"
        yield from compared(work, found, "MB", against=best, is_more_better=False)


def _text(folder: Path, megabytes: int) -> Path:
    """So much prose, no paragraph of it twice."""
    words = (Path(__file__).parents[1] / "LICENSE").read_text("utf-8").split()
    path = folder / f"text-{megabytes}.txt"
    with path.open("w", encoding="utf-8") as file:
        written = 0
        for number, first in enumerate(cycle(range(0, len(words) - 120, 7))):
            written += file.write(f"{number}. {' '.join(words[first : first + 120])}.\n\n")
            if written >= megabytes * 10**6:
                return path
    raise AssertionError


def _pdf(folder: Path, pages: int) -> Path:
    (file,) = material(folder / f"pdf-{pages}", 0, 1, pages)
    return file


def _worker_megabytes() -> float:
    total = 0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error, OSError):
            command = " ".join(process.cmdline())
            if "celery" not in command and "parsing_child" not in command:
                continue
            status = Path(f"/proc/{process.pid}/status").read_text("ascii")
            total += int(status.partition("VmHWM:")[2].split()[0])
    return total / 1000


def main() -> int:
    """Measure with other sizes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--text-megabytes", type=int, default=TEXT_MEGABYTES)
    parser.add_argument("--pdf-pages", type=int, default=PDF_PAGES)
    parser.add_argument("--only", choices=[*FRAMEWORKS, "ours"], help="beside rag-worker")
    parser.add_argument("--fraction", type=int, default=FRACTION, help="of the small file")
    options = parser.parse_args()
    frameworks = tuple(one for one in FRAMEWORKS if options.only in {None, one})
    sizes = options.text_megabytes, options.pdf_pages
    for one in measured(*sizes, frameworks, options.fraction):
        print(f"{one.work}: {one.contender} {one.value:.0f} {one.unit}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
