"""Vectors by content hash in PostgreSQL; a statement a batch, never one a text."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

_FETCH = text("""
    SELECT hash, vector, used_on < CURRENT_DATE AS is_stale
    FROM embeddings
    WHERE model = :model AND hash = ANY(CAST(:hashes AS bytea[]))
""")

# Those that another worker touches at the moment are left to it: nobody waits, nothing deadlocks.
_TOUCH = text("""
    UPDATE embeddings e SET used_on = CURRENT_DATE
    FROM (
        SELECT hash FROM embeddings
        WHERE model = :model AND hash = ANY(CAST(:hashes AS bytea[])) AND used_on < CURRENT_DATE
        FOR UPDATE SKIP LOCKED
    ) AS stale
    WHERE e.model = :model AND e.hash = stale.hash
""")

# In one order for everybody: two writers of the same texts wait for each other, in no circle.
_STORE = text("""
    INSERT INTO embeddings (model, hash, vector)
    SELECT :model, u.hash, u.vector
    FROM unnest(CAST(:hashes AS bytea[]), CAST(:vectors AS bytea[])) AS u(hash, vector)
    ORDER BY u.hash
    ON CONFLICT (model, hash) DO NOTHING
""")

_PURGE = text("""
    DELETE FROM embeddings WHERE (model, hash) IN (
        SELECT model, hash FROM embeddings
        WHERE used_on < CURRENT_DATE - CAST(:days AS int)
        LIMIT :rows
        FOR UPDATE SKIP LOCKED
    )
""")

#: Rows of one insertion: a vector takes some kilobytes of a statement.
_STORE_ROWS = 500
#: Rows of one deletion: a short transaction, a short lock.
_PURGE_ROWS = 2_000

#: A vector, or ``None`` where the model takes no text of this length.
Cached = NDArray[np.float32] | None


class EmbeddingCache:
    """What costly models have embedded; each call is one short transaction of its own."""

    def __init__(self, sessions: "sessionmaker[Session]") -> None:
        self._sessions = sessions

    def fetch(self, model: str, hashes: Sequence[bytes]) -> dict[bytes, Cached]:
        """What is known of these texts; noted as used today."""
        with self._sessions.begin() as session:
            values = {"model": model, "hashes": list(hashes)}
            rows = session.execute(_FETCH, values).all()
            stale = [bytes(row.hash) for row in rows if row.is_stale]
            if stale:
                session.execute(_TOUCH, {"model": model, "hashes": stale})
        return {
            bytes(row.hash): None if row.vector is None else np.frombuffer(row.vector, "<f4")
            for row in rows
        }

    def store(self, model: str, made: Mapping[bytes, Cached]) -> None:
        """Keep what was made of texts; what is there already stays."""
        hashes = list(made)
        for start in range(0, len(hashes), _STORE_ROWS):
            some = hashes[start : start + _STORE_ROWS]
            vectors = [made[one] for one in some]
            values = {
                "model": model,
                "hashes": some,
                "vectors": [
                    None if one is None else one.astype("<f4").tobytes() for one in vectors
                ],
            }
            with self._sessions.begin() as session:
                session.execute(_STORE, values)

    def purge(self, unused_days: int, after_batch: Callable[[], None] | None = None) -> int:
        """Delete what nobody used for so many days, in short transactions.

        Args:
            unused_days: how many.
            after_batch: called after each transaction.

        Returns:
            The number of vectors deleted.
        """
        purged = 0
        while True:
            with self._sessions.begin() as session:
                done = session.execute(_PURGE, {"days": unused_days, "rows": _PURGE_ROWS})
                count: int = done.rowcount  # type: ignore[attr-defined]
            purged += count
            if after_batch is not None:
                after_batch()
            if count < _PURGE_ROWS:
                return purged
