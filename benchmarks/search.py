"""Search in datasets of many segments: rag-worker's against bare pgvector, and both against exact.

``python -m benchmarks.search [--segments 1000000]`` fills one dataset, builds its index, and
asks the same questions in turns: by ``search``, and by one SQL statement of psycopg2's, which
gives the same passages of the same documents by the same index and the same ``ef_search``.
Either embeds the question. Recall is the share of the ten nearest that is found.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import numpy as np
from rich.console import Console
from sqlalchemy import text

from benchmarks.report import OURS, Figure, table
from benchmarks.vector_tables import MODEL, Corpus, database, fill, new_dataset
from shared.models import db
from worker.providers.wordllama import WordLlamaEmbedder
from worker.services.dataset.retrieval import search
from worker.services.dataset.search_options import SearchOptions
from worker.stores.pgvector_indexes import BuildLimits, keep_indexes
from worker.wiring import retrieval_needs

TARGET = 0.9
BARE = "bare pgvector"
TOP = 10
_QUESTIONS = 100
_SETTINGS = {"maintenance_work_mem": "1GB", "max_wal_size": "8GB"}

_BARE = """
    SET hnsw.ef_search = 400; SET hnsw.iterative_scan = strict_order;
    SELECT v.id, s.content, d.name, v.distance FROM (
        SELECT v.id, v.document_id, v.embedding <#> %(query)s::vector AS distance
        FROM segment_vectors v JOIN documents d
          ON d.id = v.document_id AND d.active_version = v.version
        WHERE v.dataset_id = %(dataset)s AND v.generation = 0 AND d.enabled AND NOT d.archived
        ORDER BY v.embedding::halfvec(256) <#> %(query)s::halfvec(256) LIMIT 10
    ) AS v
    JOIN document_segments s ON s.id = v.id JOIN documents d ON d.id = v.document_id
    WHERE s.enabled ORDER BY v.distance
"""
_EXACT = text("""
    SELECT id FROM segment_vectors WHERE dataset_id = :dataset
    ORDER BY embedding <#> CAST(:query AS vector) LIMIT 10
""")

Ask = Callable[[str], list[UUID]]


def bare(dataset_id: UUID) -> Ask:
    """What is written without a library."""
    embedder = WordLlamaEmbedder(MODEL)
    pooled = db.engine.raw_connection()
    connection: Any = pooled.driver_connection
    pooled.detach()
    connection.autocommit = True
    cursor = connection.cursor()

    def ask(question: str) -> list[UUID]:
        vector = embedder.embed([question]).vectors[0]
        cursor.execute(_BARE, {"query": str(vector.tolist()), "dataset": str(dataset_id)})
        return [UUID(str(row[0])) for row in cursor.fetchall()]

    return ask


def ours(dataset_id: UUID) -> Ask:
    """What a program calls."""
    needs = retrieval_needs()
    options = SearchOptions(method="vector", top_k=TOP)

    def ask(question: str) -> list[UUID]:
        return [one.segment_id for one in search(dataset_id, question, needs, options)]

    return ask


def exact(dataset_id: UUID, questions: list[str]) -> dict[str, set[UUID]]:
    """The nearest of all vectors."""
    vectors = WordLlamaEmbedder(MODEL).embed(questions).vectors
    with db.engine.connect() as connection:
        return {
            question: set(
                connection.scalars(_EXACT, {"dataset": dataset_id, "query": str(vector.tolist())})
            )
            for question, vector in zip(questions, vectors, strict=True)
        }


def questions_of(corpus: Corpus) -> list[str]:
    """Some words out of the middle of passages."""
    choose = np.random.default_rng(21)
    chosen = choose.choice(len(corpus.passages), _QUESTIONS, replace=False)
    return [" ".join(corpus.passages[one].split()[20:32]) or "valve" for one in chosen]


def measure(asks: dict[str, Ask], questions: list[str], seconds: float) -> dict[str, list[float]]:
    """Milliseconds of each question, in turns."""
    times: dict[str, list[float]] = {name: [] for name in asks}
    began = time.monotonic()
    first, second = list(asks.items()), list(reversed(asks.items()))
    while time.monotonic() - began < seconds:
        for question in questions:
            # Who comes second finds in memory what the first had to read.
            for name, ask in first:
                started = time.perf_counter()
                ask(question)
                times[name].append(1000 * (time.perf_counter() - started))
            first, second = second, first
        if len(questions) % 2 == 0:
            first, second = second, first
    return times


def compared_at(
    segments: int, dataset_id: UUID, corpus: Corpus, seconds: float
) -> Iterator[Figure]:
    """Latency and recall of either way in one dataset."""
    questions = questions_of(corpus)
    asks = {BARE: bare(dataset_id), OURS: ours(dataset_id)}
    nearest = exact(dataset_id, questions)
    recalls = {
        name: [len(nearest[one] & set(ask(one))) / TOP for one in questions]
        for name, ask in asks.items()
    }
    times = measure(asks, questions, seconds)
    ratio = statistics.median(a / b for a, b in zip(times[BARE], times[OURS], strict=True))
    for quantile in (50, 99):
        values = {name: float(np.percentile(found, quantile)) for name, found in times.items()}
        work = f"vector search, p{quantile}, {segments:,} segments"
        for name, value in values.items():
            is_ours, found = name == OURS, times[name]
            yield Figure(
                work,
                name,
                value,
                "ms",
                (min(found), max(found)),
                (ratio if quantile == 50 else values[BARE] / value) if is_ours else None,
                TARGET if is_ours else None,
                BARE if is_ours else "",
                len(found),
            )
    for name, found in recalls.items():
        share = statistics.fmean(found)
        work = f"recall@{TOP} against exact, {segments:,} segments"
        yield Figure(work, name, share, "", (min(found), max(found)), runs=len(found))


def figures(budget_seconds: float, segments: int = 0) -> Iterator[Figure]:
    """Latency and recall, after a first load and the building of the index."""
    segments = segments or (100_000 if budget_seconds > 30 else 20_000)
    corpus = Corpus.of_manual()
    with database(**_SETTINGS):
        _, dataset_id = new_dataset("search")
        started = time.perf_counter()
        fill(corpus, dataset_id, segments, 5, has_text=True)
        with db.engine.begin() as connection:
            connection.execute(text("ANALYZE"))
        filled = time.perf_counter()
        print(f"  {segments:,} segments filled in {filled - started:.0f} s", flush=True)
        done = list(keep_indexes(db.engine, BuildLimits(1, 1024)))
        print(f"  {done[0]} in {time.perf_counter() - filled:.0f} s", flush=True)
        yield from compared_at(segments, dataset_id, corpus, 0.3 * budget_seconds)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--segments", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=90)
    options = parser.parse_args()
    Console().print(table(figures(options.seconds, options.segments)))


if __name__ == "__main__":
    main()
