"""A change of a dataset's index begins; and what the sweeper does for those that got stuck."""

import logging
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from shared.contract import BUILD_DATASET_INDEX, DEAL_DATASET_VECTOR_INDEX
from shared.errors import ConfigurationError, InvalidRequest, NotFound, Permanent, SubjectGone
from shared.models import Dataset
from shared.models.dataset import ECONOMY
from shared.submitting.dataset_index import IndexAction, change_dataset_index, running_build
from worker.services.dataset.index_needs import Build, IndexNeeds, find_build
from worker.services.dataset.index_planning import announce_alone, announce_parts, parts_of, plan
from worker.services.dataset.index_switching import finish_build, give_up_build

logger = logging.getLogger(__name__)

# A part whose message is gone: it was lost with a plain ``.delay()``'s broker, or its worker died.
_FORGET_MESSAGES = text("""
    UPDATE index_build_documents AS part SET message_id = NULL
    FROM dataset_index_builds AS build
    WHERE build.id = part.build_id AND build.status = 'running' AND part.status = 'waiting'
      AND (part.lease_expires_at < now()
           OR (part.lease_expires_at IS NULL
               AND part.queued_at < now() - make_interval(secs => :grace_seconds)))
      AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.id = part.message_id)
    RETURNING part.build_id
""")
# One that nobody plans or ends: its message was done before its work was.
_STUCK = text("""
    SELECT build.id, build.dataset_id, build.action FROM dataset_index_builds AS build
    WHERE build.status = 'running'
      AND build.created_at < now() - make_interval(secs => :grace_seconds)
      AND NOT EXISTS (
          SELECT 1 FROM index_build_documents AS part
          WHERE part.build_id = build.id AND part.status = 'waiting'
      )
      AND NOT EXISTS (
          SELECT 1 FROM outbox
          WHERE outbox.task = ANY(:tasks) AND build.id::text IN (outbox.args->>1, outbox.args->>2)
      )
""")


def change_index(
    dataset_id: UUID, action: str, build_id: UUID | None, needs: IndexNeeds
) -> UUID | None:
    """Plan a change, and send its parts to all workers.

    Without ``build_id`` (a message that somebody sent with ``.delay()``) the change is begun
    first, unless it is under way. Delivered twice, or late, it announces what is
    not announced yet.

    Returns:
        The build's id; ``None`` when there is nothing to do.

    Raises:
        SubjectGone: (superseded) the dataset was deleted.
        InvalidRequest: there is no such action.
        Permanent: the model cannot be had; written to the build's ``error``.
    """
    if build_id is None:
        build_id = _begun(dataset_id, action, needs)
    with needs.sessions.begin() as session:
        build = None if build_id is None else find_build(session, build_id)
        if build is None or build.dataset_id != dataset_id:
            return None
        plan(session, build)
    _require_model(build, needs)
    announce_parts(build, needs)
    finish_build(build.id, needs)
    return build.id


def sweep_builds(needs: IndexNeeds, grace_seconds: float) -> int:
    """Announce again what has no message; returns how many parts and builds there were."""
    with needs.sessions.begin() as session:
        values = {"grace_seconds": grace_seconds}
        orphans = list(session.scalars(_FORGET_MESSAGES, values))
        stuck = _announce_stuck(session, needs, grace_seconds)
    for build_id in set(orphans):
        with needs.sessions() as session:
            build = find_build(session, build_id)
        if build is not None:
            announce_parts(build, needs)
    swept = len(orphans) + stuck
    if swept:
        logger.warning(
            "%s parts of index builds had no message", swept, extra={"action": "sweeper.builds"}
        )
    return swept


def split_up(build_id: UUID, documents: Sequence[UUID], needs: IndexNeeds) -> None:
    """Announce parts of a build one by one."""
    with needs.sessions.begin() as session:
        build = find_build(session, build_id)
        if build is None:
            return
        for document_id, part_id in parts_of(session, build_id, documents).items():
            announce_alone(session, build, part_id, document_id, needs)


def _announce_stuck(session: Session, needs: IndexNeeds, grace_seconds: float) -> int:
    name = DEAL_DATASET_VECTOR_INDEX.name
    tasks = [name, BUILD_DATASET_INDEX.name]
    stuck = session.execute(_STUCK, {"grace_seconds": grace_seconds, "tasks": tasks}).all()
    for row in stuck:
        needs.publish(session, name, [str(row.dataset_id), row.action, str(row.id)])
    return len(stuck)


def _begun(dataset_id: UUID, action: str, needs: IndexNeeds) -> UUID | None:
    with needs.sessions.begin() as session:
        running = running_build(session, dataset_id)
        if running is not None and running.action == action:
            return running.id
        technique = select(Dataset.indexing_technique).where(Dataset.id == dataset_id)
        if action == IndexAction.REMOVE and session.scalar(technique) == ECONOMY:
            return None  # done already, by an earlier delivery
        try:
            return change_dataset_index(session, dataset_id, action)
        except NotFound as error:
            raise SubjectGone(str(error)) from error


def _require_model(build: Build, needs: IndexNeeds) -> None:
    if not build.has_vectors or build.copies:
        return
    try:
        needs.embedders(build.provider, build.model)
    except (ConfigurationError, InvalidRequest) as error:
        give_up_build(build.id, needs, str(error))
        raise Permanent(str(error)) from error
