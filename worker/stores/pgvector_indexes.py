"""Approximate indexes (HNSW) over the vectors of large datasets, one each.

One over the whole table would cost every insert, of any dataset, several times the insert
itself, and a search would wade through other tenants' vectors. So a dataset is searched
exactly until it is large; then it gets an index of its own, built beside the inserts. The
database's catalogue says which there are: nothing else has to be kept in step with it.

Halves of the precision find the candidates, in half the memory; they are ranked in full.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, text
from sqlalchemy.orm import Session

#: What pgvector's HNSW takes of ``halfvec``.
MOST_DIMENSIONS = 4000

_PREFIX = "hnsw_segment_vectors_"
_NAME = re.compile(_PREFIX + "([0-9a-f]{32})_([0-9]+)")

_USABLE = text("""
    SELECT atttypmod FROM pg_index JOIN pg_attribute ON attrelid = indexrelid
    WHERE indexrelid = to_regclass(:name) AND indisvalid
""")
# What is being built is not valid yet, and is not left over either.
_KNOWN = text("""
    SELECT class.relname AS name, index.indisvalid AS is_valid,
           EXISTS (
               SELECT FROM pg_stat_progress_create_index AS progress
               WHERE progress.index_relid = index.indexrelid
           ) AS is_under_way
    FROM pg_index AS index JOIN pg_class AS class ON class.oid = index.indexrelid
    WHERE index.indrelid = 'segment_vectors'::regclass AND class.relname LIKE :prefix
""")
# Iterative scans came with 0.8: without them, filters leave too few.
_VERSION = text("""
    SELECT string_to_array(extversion, '.')::int[] >= '{0,8}' FROM pg_extension
    WHERE extname = 'vector'
""")
_NEXT_DATASET = text("""
    SELECT id, index_generation FROM datasets
    WHERE id > :after AND indexing_technique = 'high_quality'
      AND coalesce(vector_store = 'pgvector', :is_default)
    ORDER BY id LIMIT 1
""")
# By the documents' counters: a look at their vectors would read all of them. Of a document of
# children, each segment has several; its dataset gets its index somewhat late.
_SEGMENTS = text("SELECT coalesce(sum(total_segments), 0) FROM documents WHERE dataset_id = :id")
_DIMENSION = text("""
    SELECT vector_dims(found.embedding) FROM documents CROSS JOIN LATERAL (
        SELECT embedding FROM segment_vectors
        WHERE document_id = documents.id AND version = documents.active_version
          AND generation = :generation
        LIMIT 1
    ) AS found
    WHERE documents.dataset_id = :id LIMIT 1
""")
_CREATE = """
    CREATE INDEX CONCURRENTLY {name} ON segment_vectors
    USING hnsw (CAST(embedding AS halfvec(:dimension)) halfvec_ip_ops)
    WHERE dataset_id = :dataset_id AND generation = :generation
"""


@dataclass(frozen=True, slots=True)
class BuildLimits:
    """When to build, and at what cost.

    Attributes:
        least_segments: smaller datasets are searched exactly; 0: all are.
        memory_megabytes: what one build may take; beyond it, a build is many times slower.
        is_default: whether the vectors of datasets that name no store are in PostgreSQL.
    """

    least_segments: int
    memory_megabytes: int
    is_default: bool = True


def index_name(dataset_id: UUID, generation: int) -> str:
    """The name of a dataset's index."""
    return f"{_PREFIX}{dataset_id.hex}_{generation}"


def usable_dimension(session: Session, dataset_id: UUID, generation: int) -> int | None:
    """The dimension of a dataset's index; ``None`` when there is none that can be asked."""
    if session.get_bind().dialect.name != "postgresql":
        return None
    dimension: int | None = session.scalar(_USABLE, {"name": index_name(dataset_id, generation)})
    return dimension


def build_index(
    connection: Connection, dataset_id: UUID, generation: int, dimension: int, limits: BuildLimits
) -> None:
    """Build a dataset's index beside inserts and searches; the connection commits by itself."""
    # No transaction, so no SET LOCAL: the connection is given back as it was.
    connection.execute(text("SET statement_timeout = 0"))
    memory = {"memory": f"{limits.memory_megabytes}MB"}
    connection.execute(text("SET maintenance_work_mem = :memory"), memory)
    try:
        connection.execute(
            text(_CREATE.format(name=index_name(dataset_id, generation))),
            {"dataset_id": dataset_id, "generation": generation, "dimension": dimension},
        )
    finally:
        connection.execute(text("RESET maintenance_work_mem"))
        connection.execute(text("RESET statement_timeout"))


def keep_indexes(engine: Engine, limits: BuildLimits) -> Iterator[str]:
    """Build the indexes that are missing, drop those that nothing uses; each as it is iterated.

    Safe to repeat, and to die in the middle of: what is half built is dropped by the next run,
    and searched exactly until then. Inserts and searches go on meanwhile.

    Yields:
        What was done, in words.
    """
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if not limits.least_segments or not connection.scalar(_VERSION):
            wanted: dict[str, tuple[UUID, int]] = {}
        else:
            known = {row.name for row in _known(connection)}
            wanted = dict(_wanted(connection, limits, known))
        for row in _known(connection):
            if row.is_under_way or (row.is_valid and row.name in wanted):
                wanted.pop(row.name, None)
                continue
            connection.execute(text(f"DROP INDEX CONCURRENTLY IF EXISTS {row.name}"))
            yield f"dropped {row.name}"
        for name, (dataset_id, generation) in wanted.items():
            dimension = connection.scalar(_DIMENSION, {"id": dataset_id, "generation": generation})
            if dimension is not None and dimension <= MOST_DIMENSIONS:
                build_index(connection, dataset_id, generation, dimension, limits)
                yield f"built {name}"


def _known(connection: Connection) -> list[Any]:
    rows = connection.execute(_KNOWN, {"prefix": _PREFIX.replace("_", r"\_") + "%"})
    return [row for row in rows if _NAME.fullmatch(row.name)]


def _wanted(
    connection: Connection, limits: BuildLimits, known: set[str]
) -> Iterator[tuple[str, tuple[UUID, int]]]:
    after = UUID(int=0)
    values = {"is_default": limits.is_default}
    while row := connection.execute(_NEXT_DATASET, {**values, "after": after}).one_or_none():
        after, generation = row
        name = index_name(after, generation)
        # One that shrinks a little and grows again is not rebuilt each time.
        least = limits.least_segments / (2 if name in known else 1)
        if connection.scalar(_SEGMENTS, {"id": after}) >= least:
            yield name, (after, generation)
