"""Vectors by content hash in PostgreSQL; a statement a batch, never one a text."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from worker.stores import binary_copy

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

# Of what no other task has asked for since the look-up, which is nearly always all of it.
_COPY = text("COPY embeddings (model, hash, vector) FROM STDIN (FORMAT binary)")
# A server that crashes loses at most what documents need that are not indexed yet.
_WITHOUT_WAITING = text("SET LOCAL synchronous_commit = off")

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
        hashes = sorted(made)
        for start in range(0, len(hashes), _STORE_ROWS):
            some = [(one, _stored(made[one])) for one in hashes[start : start + _STORE_ROWS]]
            if not self._copied(model, some):
                self._insert(model, some)

    def _copied(self, model: str, rows: Sequence[tuple[bytes, bytes | None]]) -> bool:
        """Store rows in a third of the time; false, and nothing done, when one is there already."""
        try:
            with self._sessions.begin() as session:
                if not binary_copy.is_possible(session):
                    return False
                session.execute(_WITHOUT_WAITING)
                binary_copy.copy(session, _COPY, _copied_rows(model, rows))
        except IntegrityError:
            return False
        return True

    def _insert(self, model: str, rows: Sequence[tuple[bytes, bytes | None]]) -> None:
        hashes, vectors = zip(*rows, strict=True)
        values = {"model": model, "hashes": list(hashes), "vectors": list(vectors)}
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


def _stored(vector: Cached) -> bytes | None:
    return None if vector is None else vector.astype("<f4").tobytes()


def _copied_rows(model: str, rows: Iterable[tuple[bytes, bytes | None]]) -> Iterator[bytes]:
    of_model = binary_copy.text(model)
    for digest, vector in rows:
        stored = binary_copy.NULL if vector is None else binary_copy.bytea(vector)
        yield binary_copy.row(of_model, binary_copy.bytea(digest), stored)
