"""A batch of vectors as PostgreSQL's binary COPY reads it.

As text, the server spends most of its time on reading numbers: five times what the rest of
the insert takes.
"""

from collections.abc import Sequence
from uuid import UUID

import numpy as np
from psycopg2.errors import UniqueViolation
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from worker.stores.binary_copy import HEADER, TRAILER
from worker.stores.vectors import VectorBatch, vector_id

#: To be executed with ``copied=rows(batches)`` among its execution options.
COPY = text("""
    COPY segment_vectors (
        id, dataset_id, document_id, version, generation, segment_id, embedding
    ) FROM STDIN (FORMAT binary)
""")

# One round trip instead of three. Not SQLAlchemy's savepoint: each is compiled anew.
_COPY_ASIDE = f"SAVEPOINT copying; {COPY}; RELEASE SAVEPOINT copying"
_UNDO = "ROLLBACK TO SAVEPOINT copying; RELEASE SAVEPOINT copying"

_NULL = -1


def copied(connection: Connection, batches: Sequence[VectorBatch]) -> bool:
    """Insert batches in the caller's transaction.

    Returns:
        False, and nothing done, when one of their rows is there already.

    Raises:
        IntegrityError: something else is wrong with them; the transaction can go on.
        DBAPIError: as of any statement.
    """
    try:
        connection.exec_driver_sql(_COPY_ASIDE, execution_options={"copied": rows(batches)})
    except IntegrityError as error:
        connection.exec_driver_sql(_UNDO)
        if isinstance(error.orig, UniqueViolation):
            return False
        raise
    return True


def rows(batches: Sequence[VectorBatch]) -> bytes:
    """The rows of ``segment_vectors`` that batches are; the format is PostgreSQL's (COPY)."""
    return b"".join((HEADER, *map(_rows, batches), TRAILER))


def _rows(batch: VectorBatch) -> bytes:
    place, vectors = batch.place, batch.vectors
    number, dimension = vectors.shape
    ids, segment_ids = batch.ids, None
    if place.generation:
        ids, segment_ids = [vector_id(place.generation, one) for one in batch.ids], batch.ids
    # Each value has its length in bytes before it; a vector is its dimension, 16 bits that
    # pgvector keeps for itself, and its components.
    row = np.dtype(
        [
            *(("columns", ">i2"), ("id_bytes", ">i4"), ("id", "V16")),
            *(("dataset_bytes", ">i4"), ("dataset_id", "V16")),
            *(("document_bytes", ">i4"), ("document_id", "V16")),
            *(("version_bytes", ">i4"), ("version", ">i4")),
            *(("generation_bytes", ">i4"), ("generation", ">i4")),
            ("segment_bytes", ">i4"),
            *([] if segment_ids is None else [("segment_id", "V16")]),
            *(("vector_bytes", ">i4"), ("dimension", ">i2"), ("unused", ">i2")),
            ("components", ">f4", (dimension,)),
        ]
    )
    made = np.zeros(number, row)
    made["columns"] = 7
    for name in ("id", "dataset", "document"):
        made[f"{name}_bytes"] = 16
    made["version_bytes"] = made["generation_bytes"] = 4
    made["id"] = _packed(ids)
    made["dataset_id"] = np.void(place.dataset_id.bytes)
    made["document_id"] = np.void(place.document_id.bytes)
    made["version"], made["generation"] = place.version, place.generation
    made["segment_bytes"] = _NULL
    if segment_ids is not None:
        made["segment_bytes"], made["segment_id"] = 16, _packed(segment_ids)
    made["vector_bytes"], made["dimension"] = 4 + 4 * dimension, dimension
    made["components"] = vectors
    return made.tobytes()


def _packed(ids: Sequence[UUID]) -> "np.ndarray[tuple[int], np.dtype[np.void]]":
    return np.frombuffer(b"".join(one.bytes for one in ids), "V16")
