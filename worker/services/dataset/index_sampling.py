"""Random segments are searched for in the index in use and in the new one, and compared."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Row, text

from shared.errors import MigrationUnverified
from worker.delivery import runs
from worker.services.dataset.index_needs import Build, IndexNeeds
from worker.services.dataset.index_texts import StoredText
from worker.services.dataset.index_vectors import vectors_of
from worker.stores.vectors import Asked, Match, VectorQuery, VectorStore

logger = logging.getLogger(__name__)

#: Of a cosine, and of a vector's components: what rounding on the way may cost.
_TOLERANCE = 1e-3
#: Looks at a segment before its vector is said to be wrong: it may be changed by hand.
_LOOKS = 3
#: Answers of an external vector store: one may be outdated by the time it is checked.
_ROUNDS = 8

_ARE_SEARCHED = """
    FROM index_build_documents AS part
    JOIN documents AS document
      ON document.id = part.document_id AND document.active_version = part.version
    JOIN document_segments AS segment
      ON segment.document_id = document.id AND segment.version = part.version
    LEFT JOIN child_chunks AS child ON child.segment_id = segment.id
    WHERE part.build_id = :build_id AND part.status = 'completed'
      AND document.enabled AND NOT document.archived AND segment.enabled
      AND (child.id IS NOT NULL OR document.doc_form <> 'hierarchical_model')
"""
_CHOOSE = text(f"""
    SELECT coalesce(child.id, segment.id) AS id, segment.id AS segment_id,
           document.id AS document_id
    {_ARE_SEARCHED} ORDER BY random() LIMIT :samples
""")
_LOOK = text(f"""
    SELECT coalesce(child.id, segment.id) AS id, document.id AS document_id, part.version,
           part.lease_token AS token, coalesce(child.content, segment.content) AS content
    {_ARE_SEARCHED} AND document.id = :document_id AND segment.id = :segment_id
      AND (child.id IS NULL OR child.id = :id)
""")


@dataclass(frozen=True, slots=True)
class _Index:
    store: VectorStore
    generation: int


def compare_searches(build: Build, needs: IndexNeeds) -> None:
    """Search for random segments by their own vectors; each is to be found first, as before.

    Where another model made the vectors, the segment's text is embedded once more, and is
    to find itself.

    Raises:
        MigrationUnverified: (permanent) one is not, or its vector is another one.
        ServiceUnavailable: (transient) a vector store, or the embedding provider, does not answer.
    """
    values = {"build_id": build.id, "samples": build.samples}
    with needs.sessions() as session:
        chosen = session.execute(_CHOOSE, values).all()
    for one in chosen:
        runs.checkpoint()
        _compare(one, build, needs)
    logger.info(
        "dataset %s: %s searches are the same",
        build.dataset_id,
        len(chosen),
        extra={"action": "index.verified"},
    )


def _compare(chosen: Row[Any], build: Build, needs: IndexNeeds) -> None:
    difference: str | None = None
    for _ in range(_LOOKS):
        row = _look(chosen, build, needs)
        if row is None:
            return
        difference = _difference(row, build, needs)
        if difference is None or _look(chosen, build, needs) != row:
            return  # the same; or changed since, and then it is made anew
    raise MigrationUnverified(
        f"segment {chosen.segment_id} of document {chosen.document_id}: {difference}: "
        "search goes on with the old vectors; migrate again"
    )


def _look(chosen: Row[Any], build: Build, needs: IndexNeeds) -> Row[Any] | None:
    with needs.sessions() as session:
        return session.execute(_LOOK, {"build_id": build.id, **chosen._mapping}).one_or_none()  # noqa: SLF001 - SQLAlchemy's public name for it


def _difference(row: Row[Any], build: Build, needs: IndexNeeds) -> str | None:
    new = _Index(needs.vectors.at(build.vector_store), build.generation)
    old = _Index(needs.vectors.at(build.source.vector_store), build.source.generation)
    (wanted,) = vectors_of(
        build, row.document_id, row.version, [StoredText(row.id, row.content)], needs
    )
    with needs.sessions() as session:
        place = (row.document_id, row.version)
        there = new.store.fetch(session, *place, new.generation, [row.id])
        lacks = not build.copies or old.store.missing(session, *place, old.generation, [row.id])
    if row.id not in there:
        return f"it has no vector in {new.store.name}"
    if not _is_close(there[row.id], wanted):
        return f"its vector in {new.store.name} is another one"
    found = _search(new, wanted, build, needs)
    # One that was lacking was made anew: only itself can say where it is to be found.
    before = [Match(row.id, 1.0)] if lacks else _search(old, wanted, build, needs)
    if not found or not before or abs(found[0].score - before[0].score) > _TOLERANCE:
        return (
            f"a search for it finds {_shown(before)} in the index in use ({old.store.name}) "
            f"and {_shown(found)} in the new one ({new.store.name})"
        )
    return None


def _is_close(there: NDArray[np.float32], wanted: NDArray[np.float32]) -> bool:
    return there.shape == wanted.shape and bool(np.allclose(there, wanted, atol=_TOLERANCE))


def _search(
    index: _Index, vector: NDArray[np.float32], build: Build, needs: IndexNeeds
) -> Sequence[Match]:
    query = VectorQuery(build.dataset_id, index.generation, vector, limit=1, is_exact=True)
    again: Asked | None = None
    matches: Sequence[Match] = ()
    for _ in range(_ROUNDS):
        asked = index.store.ask(query, again)
        with needs.sessions() as session:
            found = index.store.search(session, query, asked)
        matches, again = found.matches, found.again
        if again is None:
            break
    return matches


def _shown(matches: Sequence[Match]) -> str:
    return f"{matches[0].id} ({matches[0].score:.4f})" if matches else "nothing"
