"""Indexing with a model over HTTP that takes 100 ms a request, against the same frameworks.

Two processes on either side. rag-worker's are two gevent workers, as many as there are cores,
each of 50 greenlets that wait for many answers at once; a framework's ask for one batch after
the other, as large as the framework makes it by default. Pages and PDFs are those of
``benchmarks.indexing``.
"""

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.contenders import FRAMEWORKS, contender, database, material
from benchmarks.indexing import in_passages
from benchmarks.report import OURS, Figure, compared, rounds
from benchmarks.stack import Ours, stack
from shared.models import db

PAGES, PDFS, PDF_PAGES = 1_000, 20, 20
#: A gevent worker is one process.
WORKERS, GREENLETS = 2, 50
#: What both workers have loaded and opened everything by.
_WARM_FILES = 100
_FILES = PAGES + PDFS
#: Requests at a time, of a process. The default, 8, spares a server that is not one's own.
CONCURRENCY = 32
#: Texts a request, as many as LangChain and LlamaIndex send by default, of any length.
TEXTS, TOKENS = 100, 65_536
_WORK = f"index {PAGES:,} HTML pages and {PDFS} PDFs, a model of 100 ms a request"


def figures(budget_seconds: float) -> Iterator[Figure]:
    """Documents a second."""
    rates: dict[str, list[float]] = {}
    passages: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name, ExitStack() as opened:
        folder = Path(name)
        files = material(folder / "files", PAGES, PDFS, PDF_PAGES)
        address = opened.enter_context(slow_embedder())
        opened.enter_context(
            stack(
                folder,
                ("-P", "gevent", "-c", str(GREENLETS)),
                WORKERS,
                EMBEDDING_PROVIDER="openai_compatible",
                EMBEDDING_MODEL="slow",
                EMBEDDING_BASE_URL=address,
                EMBEDDING_CONCURRENCY=str(CONCURRENCY),
                EMBEDDING_MAX_BATCH_TEXTS=str(TEXTS),
                EMBEDDING_MAX_BATCH_TOKENS=str(TOKENS),
            )
        )
        uri = db.engine.url.render_as_string(hide_password=False)
        peers = opened.enter_context(database(uri, "peers"))
        ours = Ours()
        others = {one: opened.enter_context(contender(one, peers, address)) for one in FRAMEWORKS}
        ours.index(files[-_WARM_FILES:], "warm")
        for one in others.values():
            one.index(files[-10:], "warm")
        for number in rounds(budget_seconds * 0.7, at_least=1):
            _forget_vectors()
            seconds, segments = ours.index(files, f"round_{number}")
            rates.setdefault(OURS, []).append(_FILES / seconds)
            passages.setdefault(OURS, []).append(segments / seconds)
            for contestant, one in others.items():
                took = one.index(files, f"round_{number}")
                rates.setdefault(contestant, []).append(_FILES / took.seconds)
                passages.setdefault(contestant, []).append(took.segments / took.seconds)
    best = max(FRAMEWORKS, key=lambda one: statistics.median(rates[one]))
    yield from compared(_WORK, rates, "documents/s", against=best, target=10)
    yield from in_passages(_WORK, passages)


@contextmanager
def slow_embedder() -> Iterator[str]:
    """The address of a server of ``benchmarks.slow_embedder``."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.slow_embedder"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin
        assert server.stdout
        yield server.stdout.readline().strip()
        server.stdin.close()


def _forget_vectors() -> None:
    # Or a second round would find all of the first in the cache.
    with db.engine.begin() as connection:
        connection.exec_driver_sql("TRUNCATE embeddings")
