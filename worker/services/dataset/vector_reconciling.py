"""Segments and vectors are compared both ways: after a restored backup, or a lost collection.

Vectors that no row stands for go. A dataset whose rows lack vectors gets a new index
beside the one in use, made of its segments as they are.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from celery import Celery
from sqlalchemy import Row, text
from sqlalchemy.orm import Session, sessionmaker

from shared.errors import InvalidRequest, NotFound
from shared.models import Dataset
from shared.submitting.dataset_index import IndexAction, change_dataset_index
from worker.delivery.alone import Done, Turn
from worker.stores.vector_stores import VectorStores
from worker.stores.vectors import VectorStore

logger = logging.getLogger(__name__)

_DOCUMENTS = 100
_IDS = 1000
_NOBODY = UUID(int=0)
#: A run looks for vectors without rows first, then for rows without vectors.
_VECTORS, _ROWS = "vectors", "rows"

# A change of the index under way makes what is missing.
_PAGE = text("""
    SELECT document.id, document.dataset_id, document.active_version AS version,
           dataset.index_generation AS generation, dataset.vector_store
    FROM documents AS document JOIN datasets AS dataset ON dataset.id = document.dataset_id
    WHERE document.id > :after AND document.active_version IS NOT NULL
      AND document.indexing_status = 'completed' AND dataset.indexing_technique = 'high_quality'
      AND NOT EXISTS (
          SELECT 1 FROM dataset_index_builds AS build
          WHERE build.dataset_id = dataset.id AND build.status = 'running'
      )
    ORDER BY document.id LIMIT :limit
""")
# A parent is found by its children, and has no vector of its own.
_WITH_VECTORS = text("""
    SELECT coalesce(child.id, segment.id)
    FROM documents AS document
    JOIN document_segments AS segment
      ON segment.document_id = document.id AND segment.version = document.active_version
    LEFT JOIN child_chunks AS child ON child.segment_id = segment.id
    WHERE document.id = :id AND document.active_version = :version
      AND document.indexing_status = 'completed' AND segment.status = 'completed'
      AND (child.id IS NOT NULL OR document.doc_form <> 'hierarchical_model')
""")


@dataclass(frozen=True, slots=True)
class ReconcileNeeds:
    """What the comparison touches.

    Attributes:
        deletes: whether vectors without rows go from external stores; else they are counted.
        rebuilds: whether datasets that lack vectors get a new index; else they are named.
    """

    sessions: sessionmaker[Session]
    vectors: VectorStores
    celery: Celery
    deletes: bool
    rebuilds: bool


def reconcile_vectors(turn: Turn, needs: ReconcileNeeds) -> Done:
    """Compare, in steps that a later run can go on from.

    Raises:
        ServiceUnavailable: (transient) the vector store does not answer.
    """
    phase, _, after = (turn.position or f"{_VECTORS} ").partition(" ")
    orphans = 0
    if phase == _VECTORS:
        orphans = _find_orphans(turn, needs, after or None)
        after = ""
    lacking = _find_lacking(turn, needs, UUID(after) if after else _NOBODY)
    turn.reach(None)
    gone = "deleted" if needs.deletes else "left: see VECTOR_ORPHANS_DELETE"
    words = f"{orphans} vectors without a row {gone}; {lacking} rows without a vector"
    return Done(orphans + lacking, words)


def _find_orphans(turn: Turn, needs: ReconcileNeeds, position: str | None) -> int:
    begun, _, after = (position or "").partition("/")
    orphans = 0
    for store in sorted(needs.vectors.each(), key=lambda one: one.name):
        if store.name >= begun:
            orphans += _find_orphans_in(
                store, turn, needs, after or None if store.name == begun else None
            )
    if orphans:
        logger.warning("%s vectors had no row", orphans, extra={"action": "vectors.orphans"})
    return orphans


def _find_orphans_in(
    store: VectorStore, turn: Turn, needs: ReconcileNeeds, after: str | None
) -> int:
    orphans = 0
    # Vectors in the database cannot be anybody else's.
    deletes = needs.deletes or not store.is_external
    while True:
        with needs.sessions.begin() as session:
            found = store.orphans(session, after, deletes=deletes)
        orphans += found.number
        after = found.next_after
        if after is None:
            return orphans
        turn.reach(f"{_VECTORS} {store.name}/{after}")


def _find_lacking(turn: Turn, needs: ReconcileNeeds, after: UUID) -> int:
    lacking = 0
    while True:
        with needs.sessions() as session:
            page = session.execute(_PAGE, {"after": after, "limit": _DOCUMENTS}).all()
        by_dataset: Counter[UUID] = Counter()
        for document in page:
            by_dataset[document.dataset_id] += _lacking(document, needs)
        for dataset_id, number in by_dataset.items():
            if number:
                _mend(dataset_id, number, needs)
                lacking += number
        if len(page) < _DOCUMENTS:
            return lacking
        after = page[-1].id
        turn.reach(f"{_ROWS} {after}")


def _lacking(document: Row[Any], needs: ReconcileNeeds) -> int:
    missing = _missing(document, needs)
    # Looked at twice: a document that is changed at this moment lacks nothing.
    return len(missing & _missing(document, needs)) if missing else 0


def _missing(document: Row[Any], needs: ReconcileNeeds) -> set[UUID]:
    with needs.sessions() as session:
        values = {"id": document.id, "version": document.version}
        ids = session.scalars(_WITH_VECTORS, values).all()
        store = needs.vectors.at(document.vector_store)
        place = (document.id, document.version, document.generation)
        return {one for batch in _batches(ids) for one in store.missing(session, *place, batch)}


def _batches(ids: Sequence[UUID]) -> Iterator[Sequence[UUID]]:
    for start in range(0, len(ids), _IDS):
        yield ids[start : start + _IDS]


def _mend(dataset_id: UUID, number: int, needs: ReconcileNeeds) -> None:
    way_out = "its index is built anew" if needs.rebuilds else "rebuild it: datasets reindex"
    logger.error(
        "dataset %s: %s segments have no vector: %s",
        dataset_id,
        number,
        way_out,
        extra={"action": "vectors.lacking", "dataset_id": str(dataset_id)},
    )
    if not needs.rebuilds:
        return
    try:
        with needs.sessions.begin() as session:
            dataset = session.get_one(Dataset, dataset_id)
            change_dataset_index(
                session,
                dataset_id,
                IndexAction.UPDATE,
                embedding_provider=dataset.embedding_provider,
                embedding_model=dataset.embedding_model,
                celery=needs.celery,
            )
    except (InvalidRequest, NotFound) as error:
        # It was deleted, or became an economy one, since it was looked at.
        logger.info("dataset %s: %s", dataset_id, error, extra={"action": "vectors.not_rebuilt"})
