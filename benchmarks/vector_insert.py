"""Vectors into their table: rag-worker's way against raw COPY, and the ways by rows.

``python -m benchmarks.vector_insert [--batch 256]`` writes the same rows in the same
transactions into the same table with the same indexes, in turns: each row by the ORM, by
``executemany``, by binary COPY straight into psycopg2, and by the vector store.
"""

import argparse
import io
import time
from collections.abc import Callable, Iterator
from functools import partial
from uuid import UUID, uuid4

import numpy as np
from rich.console import Console
from sqlalchemy import text
from sqlalchemy.orm import Session

from benchmarks.report import OURS, Figure, compared, rounds, table
from benchmarks.vector_tables import Corpus, database, new_dataset, new_documents
from shared.models import SegmentVector, db
from shared.settings.indexing import IndexingSettings
from worker.stores import pgvector_copy
from worker.stores.pgvector import PgVectorStore
from worker.stores.vectors import VectorBatch, VectorPlace

TARGET = 0.9
#: As many as an indexing run writes in a transaction, unless it is told otherwise.
BATCH: int = IndexingSettings.model_fields["indexing_batch_segments"].default
COPY = "raw COPY"
_VECTORS = 10_240
_ROWWISE_VECTORS = 512
_EXECUTEMANY = """
    INSERT INTO segment_vectors (id, dataset_id, document_id, version, generation, embedding)
    VALUES (%s, %s, %s, %s, %s, %s)
"""

Way = Callable[[list[VectorBatch]], None]


def batches(
    corpus: Corpus, dataset_id: UUID, documents: list[UUID], vectors: int, size: int
) -> list[VectorBatch]:
    """New rows, a document a batch."""
    choose = np.random.default_rng(3)
    return [
        VectorBatch(
            VectorPlace(dataset_id, documents[start // size], 1, 0, uuid4(), 1),
            [uuid4() for _ in range(size)],
            corpus.like(size, choose)[1],
        )
        for start in range(0, vectors, size)
    ]


def by_orm(found: list[VectorBatch]) -> None:
    """An object a row, as tutorials have it."""
    for batch in found:
        with Session(db.engine) as session, session.begin():
            for one, vector in zip(batch.ids, batch.vectors, strict=True):
                row = SegmentVector(
                    id=one,
                    dataset_id=batch.place.dataset_id,
                    document_id=batch.place.document_id,
                    version=1,
                    embedding=str(vector.tolist()),
                )
                session.add(row)
                session.flush()


def by_executemany(found: list[VectorBatch]) -> None:
    """psycopg2's own ``executemany``."""
    for batch in found:
        place = batch.place
        owner = (str(place.dataset_id), str(place.document_id), 1, 0)
        rows = [
            (str(one), *owner, str(vector.tolist()))
            for one, vector in zip(batch.ids, batch.vectors, strict=True)
        ]
        connection = db.engine.raw_connection()
        try:
            connection.cursor().executemany(_EXECUTEMANY, rows)
            connection.commit()
        finally:
            connection.close()


def by_copy(found: list[VectorBatch]) -> None:
    """Nothing but COPY."""
    for batch in found:
        connection = db.engine.raw_connection()
        try:
            rows = io.BytesIO(pgvector_copy.rows([batch]))
            connection.cursor().copy_expert(str(pgvector_copy.COPY), rows)
            connection.commit()
        finally:
            connection.close()


def by_store(found: list[VectorBatch]) -> None:
    """What an indexing run does."""
    store = PgVectorStore()
    for batch in found:
        with Session(db.engine) as session, session.begin():
            store.upsert(session, batch)


def rate(way: Way, found: list[VectorBatch]) -> float:
    """Vectors a second into the emptied table."""
    with db.engine.begin() as connection:
        connection.execute(text("TRUNCATE segment_vectors"))
    started = time.perf_counter()
    way(found)
    seconds = time.perf_counter() - started
    wanted = sum(len(one.ids) for one in found)
    with db.engine.connect() as connection:
        written = connection.scalar(text("SELECT count(*) FROM segment_vectors"))
    if written != wanted:
        raise RuntimeError(f"{written} of {wanted} vectors were written")
    return wanted / seconds


def figures(budget_seconds: float, batch: int = BATCH) -> Iterator[Figure]:
    """Each way's rate, against raw COPY."""
    corpus = Corpus.of_manual()
    with database():
        _, dataset_id = new_dataset("insert")
        documents = new_documents(dataset_id, _VECTORS // batch, first=0, serving=False)
        made = partial(batches, corpus, dataset_id, documents, size=batch)
        whole, few = made(vectors=_VECTORS), made(vectors=_ROWWISE_VECTORS)
        ways: dict[str, tuple[Way, list[VectorBatch]]] = {
            COPY: (by_copy, whole),
            OURS: (by_store, whole),
            "executemany": (by_executemany, few),
            "rows by the ORM": (by_orm, few),
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in rounds(0.7 * budget_seconds, at_least=5, at_most=25):
            for name, (way, found) in ways.items():
                rates[name].append(rate(way, found))
        work = f"insert of vectors, {batch} a transaction"
        yield from compared(work, rates, "vectors/s", against=COPY, target=TARGET)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--seconds", type=float, default=30)
    options = parser.parse_args()
    Console().print(table(figures(options.seconds, options.batch)))


if __name__ == "__main__":
    main()
