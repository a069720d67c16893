"""What a document and a search cost in a dataset, by how much is in it already.

``python -m benchmarks.growth [--segments 10000 100000 1000000]`` fills a dataset of each size in
one database, then indexes the same pages of Python's manual into all of them in turns, page by
page, and asks each the same questions. No dataset has an HNSW index: what an insert into one
takes is pgvector's, and is in docs/performance-vectors.md. A size is compared with the smallest.
"""

import argparse
import io
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from uuid import UUID

import psutil
from flask import current_app
from rich.console import Console
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from benchmarks.manual import Page, manual
from benchmarks.report import OURS, Figure, table
from benchmarks.search import questions_of
from benchmarks.vector_tables import Corpus, database, fill, new_dataset
from shared.models import db
from shared.submitting.dataset import submit_documents
from shared.submitting.files import store_file
from worker import wiring
from worker.services.dataset.indexing import index_document
from worker.services.dataset.keyword_statistics import measure_words
from worker.services.dataset.retrieval import search
from worker.services.dataset.search_options import SearchOptions

#: A fifth more than in the smallest.
TARGET = 1 / 1.2
_SIZES = (10_000, 100_000)
_PAGES = 24
_LARGEST_PAGE = 20_000
_QUESTIONS = 40
_SETTINGS = {"max_wal_size": "8GB"}

Runs = dict[int, list[float]]


def submit(page: Page, tenant_id: UUID, dataset_id: UUID) -> UUID:
    """A document that waits."""
    storage, redis = (current_app.extensions[name] for name in ("storage", "redis"))
    name = f"{page.name}.txt"
    with Session(db.engine) as session, session.begin():
        stored = store_file(storage, tenant_id, name, io.BytesIO(page.text.encode()))
        (submission,) = submit_documents(session, redis, dataset_id, [(name, stored)])
    return submission.document_id


def milliseconds(work: Callable[[], object]) -> tuple[float, float]:
    """What it takes by the clock, and of processor time here and in the database."""
    processor, began = _processor_seconds(), time.perf_counter()
    work()
    clock = time.perf_counter() - began
    return 1000 * clock, 1000 * (_processor_seconds() - processor)


def _processor_seconds() -> float:
    here = psutil.Process()
    times = [one.cpu_times() for one in (here, *here.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def filled(sizes: Sequence[int]) -> tuple[UUID, dict[int, UUID]]:
    """A tenant, and a dataset of each size."""
    corpus, datasets = Corpus.of_manual(), {}
    for size in sizes:
        started = time.perf_counter()
        tenant_id, datasets[size] = new_dataset(f"{size} segments")
        fill(corpus, datasets[size], size, size % 97, has_text=True)
        print(f"  {size:,} segments in {time.perf_counter() - started:.0f} s", flush=True)
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
    # As the schedule does once an hour.
    list(measure_words(sessionmaker(db.engine)))
    return tenant_id, datasets


def measure_documents(tenant_id: UUID, datasets: dict[int, UUID]) -> tuple[Runs, Runs]:
    """Milliseconds of each page in each dataset: by the clock, and of processor time."""
    pages = [page for page in manual(7) if len(page.text) <= _LARGEST_PAGE][: _PAGES + 1]
    needs = wiring.indexing_needs()
    clock: Runs = {size: [] for size in datasets}
    processor: Runs = {size: [] for size in datasets}
    for number, page in enumerate(pages):
        for size, dataset_id in datasets.items():
            document_id = submit(page, tenant_id, dataset_id)
            times = milliseconds(lambda: index_document(document_id, dataset_id, needs))  # noqa: B023
            # The first loads what all others have.
            if number:
                clock[size].append(times[0])
                processor[size].append(times[1])
    return clock, processor


def measure_searches(datasets: dict[int, UUID], method: str) -> Runs:
    """Milliseconds of each question in each dataset, by the clock."""
    questions = questions_of(Corpus.of_manual())[:_QUESTIONS]
    needs, options = wiring.retrieval_needs(), SearchOptions(method=method, top_k=10)
    clock: Runs = {size: [] for size in datasets}
    for number, question in enumerate([questions[0], *questions]):
        for size, dataset_id in datasets.items():
            times = milliseconds(lambda: search(dataset_id, question, needs, options))  # noqa: B023
            if number:
                clock[size].append(times[0])
    return clock


def compared_by_size(work: str, runs: Runs, *, target: float | None) -> Iterator[Figure]:
    """A figure a size, with how many times cheaper than the smallest it is."""
    smallest = min(runs)
    for size, values in runs.items():
        ratio = statistics.fmean(runs[smallest]) / statistics.fmean(values)
        is_other = size != smallest
        yield Figure.of(
            f"{work}, {size:,} segments",
            OURS,
            values,
            "ms",
            ratio=ratio if is_other else None,
            target=target if is_other else None,
            against=f"{smallest:,} segments" if is_other else "",
        )


def figures(budget_seconds: float, sizes: Sequence[int] = ()) -> Iterator[Figure]:
    """Documents and searches in datasets of several sizes."""
    sizes = sizes or (_SIZES if budget_seconds > 40 else (2_000, 20_000))
    with database(**_SETTINGS):
        tenant_id, datasets = filled(sizes)
        clock, processor = measure_documents(tenant_id, datasets)
        yield from compared_by_size("a document, processor time", processor, target=TARGET)
        yield from compared_by_size("a document, by the clock", clock, target=None)
        for method in ("keyword", "hybrid"):
            runs = measure_searches(datasets, method)
            yield from compared_by_size(f"{method} search", runs, target=None)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--segments", type=int, nargs="+", default=list(_SIZES))
    Console().print(table(figures(180, parser.parse_args().segments)))


if __name__ == "__main__":
    main()
