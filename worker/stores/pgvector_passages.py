"""The nearest passages of a dataset in one statement, where its vectors are in PostgreSQL.

One round trip instead of six, and one moment without a transaction: what says how the dataset
is searched, the nearest vectors and what stands in their segments.
"""

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from worker.stores.pgvector_indexes import index_name
from worker.stores.pgvector_nearest import BY_INDEX, COUNTING, SCAN, SELECT, candidates_for
from worker.stores.vectors import VectorQuery

_BY_READING = "ORDER BY distance LIMIT :limit"
_PASSAGES = """
    SELECT dataset.indexing_technique, dataset.embedding_provider, dataset.embedding_model,
           dataset.doc_form, dataset.index_generation, dataset.vector_store,
           dataset.retrieval_model,
           dataset.last_searched_at < now() - interval '1 hour' AS is_use_due,
           (
               SELECT atttypmod FROM pg_index JOIN pg_attribute ON attrelid = indexrelid
               WHERE indexrelid = to_regclass(:index) AND indisvalid
           ) AS index_dimension, found.*
    FROM datasets AS dataset LEFT JOIN (
        SELECT s.id AS segment_id, s.document_id, nearest.name AS document_name, s.position,
               s.page, s.content, s.answer, s.is_summary, nearest.distance
        FROM ({nearest}) AS nearest JOIN document_segments s ON s.id = nearest.id
    ) AS found ON true
    WHERE dataset.id = :dataset_id
    ORDER BY found.distance
"""
_NEAREST = f"{SELECT}, d.name {COUNTING}"
_INDEXED = text(SCAN + _PASSAGES.format(nearest=_NEAREST + BY_INDEX))
_READ = text(_PASSAGES.format(nearest=_NEAREST + _BY_READING))


def nearest_passages(
    session: Session, query: VectorQuery, dimension: int | None
) -> Sequence[Row[Any]]:
    """The dataset and its nearest passages, best first; no transaction is needed.

    Args:
        session: the search's.
        query: of no documents in particular.
        dimension: of the index that is believed to be there; ``None`` to read all vectors.

    Returns:
        A row a passage, each with the dataset's columns before it, in the order of
        ``SearchedDataset``, and the dimension of the index that is there. One row without a
        ``segment_id`` where nothing is found, none where there is no such dataset.
    """
    values = {
        "dataset_id": query.dataset_id,
        "generation": query.generation,
        "query": orjson.dumps(query.vector, option=orjson.OPT_SERIALIZE_NUMPY).decode(),
        "limit": query.limit,
        "index": index_name(query.dataset_id, query.generation),
        "dimension": dimension,
        "candidates": candidates_for(query.limit),
    }
    return session.connection().execute(_READ if dimension is None else _INDEXED, values).all()
