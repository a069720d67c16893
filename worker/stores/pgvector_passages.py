"""The nearest passages of a dataset in one statement, where its vectors are in PostgreSQL.

One round trip instead of six, and one moment without a transaction: what says how the dataset
is searched, the nearest vectors and what stands in their segments.
"""

from typing import Any

import orjson
from sqlalchemy import Engine, text
from sqlalchemy.dialects.postgresql import psycopg2

from worker.stores.driver_reading import Rows, read_rows
from worker.stores.pgvector_indexes import index_name
from worker.stores.pgvector_nearest import COUNTING, SCAN, SELECT, candidates_for
from worker.stores.vectors import VectorQuery

# As one text, for it stands in every row; in the order of ``SearchedDataset``.
_DATASET = """
    (
        SELECT CAST(json_build_array(
            indexing_technique, embedding_provider, embedding_model, doc_form, index_generation,
            vector_store, retrieval_model, last_searched_at < now() - interval '1 hour'
        ) AS text)
        FROM datasets WHERE id = :dataset_id
    )
"""
# In the order of ``FoundPassage``. The inner product of unit vectors is the cosine; <#> is its
# negative.
_PASSAGE = """
    d.id, d.name, s.id, s.position, s.page, -({distance}), s.content, s.answer, s.is_summary
"""
# Each join that is left out here is time that planning takes: the index gives its vectors in
# order, and the first few that count are enough, so their segments are looked at at once.
_BY_INDEX = """
    SELECT {dataset}, CASE WHEN to_regclass(:index) IS NOT NULL THEN :dimension END, {passage}
    FROM segment_vectors v
    JOIN documents d ON d.id = v.document_id AND d.active_version = v.version
    JOIN document_segments s ON s.id = COALESCE(v.segment_id, v.id)
    WHERE v.dataset_id = :dataset_id AND v.generation = :generation
      AND d.enabled AND NOT d.archived AND s.enabled
    ORDER BY CAST(v.embedding AS halfvec(:dimension)) <#> CAST(:query AS halfvec(:dimension))
    LIMIT :limit
"""
_BY_READING = """
    SELECT {dataset}, (
               SELECT atttypmod FROM pg_index JOIN pg_attribute ON attrelid = indexrelid
               WHERE indexrelid = to_regclass(:index) AND indisvalid
           ), {passage}
    FROM ({nearest} ORDER BY distance LIMIT :limit) AS nearest
    JOIN document_segments s ON s.id = nearest.id
    JOIN documents d ON d.id = s.document_id
"""


def _rendered(statement: str, distance: str) -> str:
    passage = _PASSAGE.format(distance=distance)
    whole = statement.format(dataset=_DATASET, passage=passage, nearest=SELECT + COUNTING)
    return str(text(whole).compile(dialect=psycopg2.dialect()))  # type: ignore[no-untyped-call]


_INDEXED = _rendered(SCAN + _BY_INDEX, "v.embedding <#> CAST(:query AS vector)")
_READ = _rendered(_BY_READING, "nearest.distance")


def nearest_passages(engine: Engine, query: VectorQuery, dimension: int | None) -> Rows:
    """The dataset and its nearest passages, in no order; no transaction is needed.

    Args:
        engine: of the database.
        query: of no documents in particular.
        dimension: of the index that is believed to be there; ``None`` to read all vectors.

    Returns:
        A row a passage: the dataset as a JSON array, in the order of ``SearchedDataset``; the
        dimension of the index that is there; a ``FoundPassage``. None where nothing is found,
        or where there is no such dataset.

    Raises:
        DBAPIError: as SQLAlchemy raises it.
    """
    values: dict[str, Any] = {
        "dataset_id": str(query.dataset_id),
        "generation": query.generation,
        "query": orjson.dumps(query.vector, option=orjson.OPT_SERIALIZE_NUMPY).decode(),
        "limit": query.limit,
        "index": index_name(query.dataset_id, query.generation),
        "dimension": dimension,
        "candidates": candidates_for(query.limit),
    }
    return read_rows(engine, _READ if dimension is None else _INDEXED, values)
