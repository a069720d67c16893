"""The end of a change of the index: search switches to it at once, or it never will."""

import logging
from typing import Any
from uuid import UUID

from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from shared.contract import CLEAN_DATASET_INDEX, DEAL_DATASET_VECTOR_INDEX
from shared.errors import MigrationUnverified
from shared.models import Dataset, DatasetIndexBuild
from shared.models.dataset import ECONOMY, HIGH_QUALITY
from shared.submitting.dataset_index import fence_off
from shared.submitting.files import storable
from worker.delivery import runs
from worker.services.dataset.index_needs import Build, IndexNeeds, find_build
from worker.services.dataset.index_planning import announce_parts, plan
from worker.services.dataset.index_verifying import is_verified, verify

logger = logging.getLogger(__name__)

_WAITING = text("""
    SELECT 1 FROM index_build_documents WHERE build_id = :build_id AND status = 'waiting' LIMIT 1
""")
_END = text("""
    UPDATE dataset_index_builds
    SET status = :status, error = :error, finished_at = statement_timestamp()
    WHERE id = :build_id AND status = 'running'
    RETURNING dataset_id
""")
_REVIVE = text("""
    UPDATE dataset_index_builds AS build SET status = 'running', error = NULL, finished_at = NULL
    WHERE build.id = :build_id AND build.status = 'error' AND NOT EXISTS (
        SELECT 1 FROM dataset_index_builds AS other
        WHERE other.dataset_id = build.dataset_id AND other.generation > build.generation
    )
    RETURNING dataset_id, action
""")
_START_OVER = text("""
    UPDATE index_build_documents
    SET status = 'waiting', version = NULL, error = NULL, message_id = NULL,
        lease_token = lease_token + 1, lease_expires_at = NULL, lease_owner = NULL
    WHERE build_id = :build_id
""")


def finish_build(build_id: UUID, needs: IndexNeeds) -> bool:
    """Switch search to the index that was built, if it is whole.

    A document that was indexed meanwhile gets its part now. From the look that finds
    none to the switch no document can be completed in the old index: its last
    transaction waits for the dataset's row, and then learns of the switch.

    Returns:
        Whether search has switched.

    Raises:
        MigrationUnverified: (permanent) it is not what it is made of; the build is given up.
        ServiceUnavailable: (transient) a vector store does not answer while it is verified.
    """
    while True:
        runs.checkpoint()
        with needs.sessions() as session:
            build = find_build(session, build_id)
            if build is None or _is_waiting(session, build_id):
                return False
        if build.samples is not None:
            _verify(build, needs)
        with needs.sessions.begin() as session:
            build = _locked(session, build_id)
            if build is None:
                return False
            lacking = plan(session, build)
            if not lacking:
                if _is_waiting(session, build_id):
                    return False
                if not is_verified(session, build):
                    continue
                _switch(session, build, needs)
        break
    if lacking:
        announce_parts(build, needs)
        return False
    logger.info("dataset %s has another index", build.dataset_id, extra={"action": "index.switch"})
    return True


def _is_waiting(session: Session, build_id: UUID) -> bool:
    return session.execute(_WAITING, {"build_id": build_id}).one_or_none() is not None


def _verify(build: Build, needs: IndexNeeds) -> None:
    try:
        verify(build, needs)
    except MigrationUnverified as error:
        give_up_build(build.id, needs, str(error))
        raise


def give_up_build(build_id: UUID, needs: IndexNeeds, reason: str) -> None:
    """End a change as ``error``; search goes on with the index it has. Safe to repeat."""
    with needs.sessions.begin() as session:
        values = {"build_id": build_id, "status": "error", "error": storable(reason)}
        dataset_id = session.scalar(_END, values)
        if dataset_id is not None:
            fence_off(session, build_id)
            needs.publish(session, CLEAN_DATASET_INDEX.name, [str(dataset_id)])


def revive_build(session: Session, build_id: UUID, needs: IndexNeeds) -> None:
    """Begin again a change that was given up, unless a later one was wished for."""
    row = session.execute(_REVIVE, {"build_id": build_id}).one_or_none()
    if row is not None:
        # Its vectors may be half deleted by now.
        session.execute(_START_OVER, {"build_id": build_id})
        arguments = [str(row.dataset_id), row.action, str(build_id)]
        needs.publish(session, DEAL_DATASET_VECTOR_INDEX.name, arguments)


def _locked(session: Session, build_id: UUID) -> Build | None:
    """The build, its dataset locked against completions; the dataset first, as everywhere."""
    session.execute(
        select(Dataset.id)
        .join(DatasetIndexBuild, DatasetIndexBuild.dataset_id == Dataset.id)
        .where(DatasetIndexBuild.id == build_id)
        .with_for_update(of=Dataset)
    )
    return find_build(session, build_id)


def _switch(session: Session, build: Build, needs: IndexNeeds) -> None:
    values: dict[str, Any] = {"index_generation": build.generation}
    if build.has_vectors:
        dimension = select(DatasetIndexBuild.embedding_dimension).where(
            DatasetIndexBuild.id == build.id
        )
        values |= {
            "indexing_technique": HIGH_QUALITY,
            "embedding_provider": build.provider,
            "embedding_model": build.model,
            "embedding_dimension": session.scalar(dimension),
            "vector_store": needs.vectors.at(build.vector_store).name,
        }
    else:
        values |= {
            "indexing_technique": ECONOMY,
            "embedding_dimension": None,
            "vector_store": None,
        }
    session.execute(update(Dataset).where(Dataset.id == build.dataset_id).values(**values))
    session.execute(_END, {"build_id": build.id, "status": "completed", "error": None})
    needs.publish(session, CLEAN_DATASET_INDEX.name, [str(build.dataset_id)])
