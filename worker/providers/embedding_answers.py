"""The answer of ``/v1/embeddings``: every text's vector in its place, or a clear error."""

import base64
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from shared.errors import ServiceUnavailable
from worker.providers.embedder import require_dimension


def read_vectors(body: bytes, texts: int, dimension: int | None) -> NDArray[np.float32]:
    """The vectors in the order of the texts, scaled to unit length.

    Args:
        body: JSON, as OpenAI describes it.
        texts: how many were sent.
        dimension: what their vectors have, if that is known.

    Raises:
        ServiceUnavailable: (transient) not what was asked for: another number, a text
            twice or not at all, a vector with NaN or infinity, or of zeros only.
        ProviderRefused: (permanent) vectors of another dimension.
    """
    rows = _in_order(_entries(body), texts)
    lengths = {len(row) for row in rows}
    if len(lengths) > 1:
        raise ServiceUnavailable(
            f"the embedding provider answers with vectors of {sorted(lengths)} dimensions at once"
        )
    (found,) = lengths
    require_dimension(found, found if dimension is None else dimension)
    return _unit(np.stack(rows))


def _entries(body: bytes) -> list[Any]:
    try:
        answer = _parsed(body)
        entries = answer["data"]
    except (ValueError, KeyError, TypeError) as error:
        raise ServiceUnavailable(
            f"the embedding provider's answer is no list of embeddings: {error}"
        ) from error
    if not isinstance(entries, list):
        raise ServiceUnavailable("the embedding provider's answer is no list of embeddings")
    return entries


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        # This one reads NaN and Infinity, which are then refused by their name.
        return json.loads(body)


def _in_order(entries: Sequence[Any], texts: int) -> list[NDArray[np.float64]]:
    if len(entries) != texts:
        raise ServiceUnavailable(
            f"the embedding provider answers {len(entries)} vectors to {texts} texts"
        )
    rows: list[NDArray[np.float64] | None] = [None] * texts
    for place, entry in enumerate(entries):
        try:
            index = int(entry.get("index", place))
            vector = _vector(entry["embedding"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ServiceUnavailable(
                f"the embedding provider's vector {place} cannot be read: {error}"
            ) from error
        if not 0 <= index < texts or rows[index] is not None:
            raise ServiceUnavailable(
                f"the embedding provider answers to text {index} of {texts} more than once"
                if 0 <= index < texts
                else f"the embedding provider answers to text {index} of {texts}"
            )
        rows[index] = vector
    return [row for row in rows if row is not None]


def _vector(value: Any) -> NDArray[np.float64]:
    if isinstance(value, str):
        return np.frombuffer(base64.b64decode(value, validate=True), "<f4").astype(np.float64)
    vector = np.asarray(value, dtype=np.float64)
    if vector.ndim != 1 or not vector.size:
        raise ValueError("it is no list of numbers")
    return vector


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise ServiceUnavailable(
            "the embedding provider answers with NaN or infinity in the vector of text "
            f"{int(np.flatnonzero(~finite)[0])} of {len(vectors)}"
        )
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not lengths.all():
        raise ServiceUnavailable(
            "the embedding provider answers with zeros only for text "
            f"{int(np.flatnonzero(lengths == 0)[0])} of {len(vectors)}"
        )
    unit: NDArray[np.float32] = (vectors / lengths).astype(np.float32)
    return unit
