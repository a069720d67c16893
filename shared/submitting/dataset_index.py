"""A whole dataset's index is changed: built beside the one in use, then switched to at once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID, uuid4

from celery import Celery
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from shared.contract import CLEAN_DATASET_INDEX, DEAL_DATASET_VECTOR_INDEX
from shared.errors import InvalidRequest, NotFound
from shared.models import Dataset, DatasetIndexBuild
from shared.models.dataset import ECONOMY
from shared.queueing import outbox
from shared.submitting.embedding_models import require_known_model
from shared.submitting.ids import AnyId, checked_id


class IndexAction(StrEnum):
    """What can be done with a dataset's index; the words are Dify's."""

    ADD = "add"  #: vectors of everything; makes an economy dataset a high-quality one
    UPDATE = "update"  #: the same with another embedding model
    REMOVE = "remove"  #: keywords only; makes it an economy dataset


@dataclass(frozen=True, slots=True)
class _Wish:
    action: IndexAction
    provider: str
    model: str


_SUPERSEDE = text("""
    UPDATE dataset_index_builds SET status = 'superseded', finished_at = statement_timestamp()
    WHERE id = :build_id AND status = 'running'
""")
#: Whoever works on a part of it writes nothing more.
_FENCE_OFF = text("""
    UPDATE index_build_documents
    SET lease_token = lease_token + 1, lease_expires_at = NULL, lease_owner = NULL
    WHERE build_id = :build_id AND status = 'waiting'
""")


def change_dataset_index(
    session: Session,
    dataset_id: AnyId,
    action: str,
    *,
    embedding_provider: str | None = None,
    embedding_model: str | None = None,
    celery: Celery | None = None,
) -> UUID:
    """Have a dataset's index built anew, or removed, in the caller's transaction.

    Search goes on with the index in use until the other one is complete; no document is
    missing at any moment. A wish that is being carried out already is answered with the
    same id; another one takes its place.

    Args:
        session: the caller's; commit it as usual.
        dataset_id: whose index.
        action: ``add`` (vectors of everything, also for a dataset that had none),
            ``update`` (with another embedding model), ``remove`` (keywords only).
        embedding_provider: of ``add`` and ``update``; the dataset's own, when unset.
        embedding_model: likewise; a provider without a model is refused.
        celery: publishes right after the commit; without it a worker's relay does.

    Returns:
        The build's id: see ``index_builds``.

    Raises:
        InvalidRequest: no such action, provider or model, an action that makes no sense for
            this dataset, or no id.
        NotFound: there is no such dataset.
    """
    dataset = locked_dataset(session, dataset_id)
    wish = _wish(dataset, action, embedding_provider, embedding_model)
    running = running_build(session, dataset.id)
    if running is not None:
        if _wish_of(running) == wish and running.samples is None:
            return running.id
        supersede(session, running.id)
    build = DatasetIndexBuild(
        action=wish.action.value,
        embedding_provider=wish.provider,
        embedding_model=wish.model,
        vector_store=dataset.vector_store,
    )
    begin_build(session, dataset, build, celery)
    if running is not None:
        clean_up_later(session, dataset.id, celery=celery)
    return build.id


def locked_dataset(session: Session, dataset_id: AnyId) -> Dataset:
    """The dataset, locked: that orders wishes, and the clean-up that must not take a new one's.

    Raises:
        InvalidRequest: the id is none.
        NotFound: there is no such dataset.
    """
    dataset_id = checked_id("dataset_id", dataset_id)
    query = select(Dataset).where(Dataset.id == dataset_id).with_for_update(key_share=True)
    dataset = session.scalars(query.execution_options(populate_existing=True)).one_or_none()
    if dataset is None:
        raise NotFound(f"there is no dataset {dataset_id}")
    return dataset


def begin_build(
    session: Session, dataset: Dataset, build: DatasetIndexBuild, celery: Celery | None
) -> None:
    """Write a build of a locked dataset and its message, in the caller's transaction."""
    build.id, build.dataset_id = uuid4(), dataset.id
    build.generation = _next_generation(session, dataset)
    session.add(build)
    session.flush()
    arguments = [str(dataset.id), build.action, str(build.id)]
    name = DEAL_DATASET_VECTOR_INDEX.name
    outbox.write(session, name, arguments, celery=celery, tenant_id=dataset.tenant_id)


def running_build(session: Session, dataset_id: UUID) -> DatasetIndexBuild | None:
    """The dataset's change under way, if there is one."""
    return session.scalars(
        select(DatasetIndexBuild)
        .where(DatasetIndexBuild.dataset_id == dataset_id, DatasetIndexBuild.status == "running")
        .execution_options(populate_existing=True)
    ).one_or_none()


def supersede(session: Session, build_id: UUID) -> None:
    """End a build that another one takes the place of, in the caller's transaction."""
    session.execute(_SUPERSEDE, {"build_id": build_id})
    fence_off(session, build_id)


def fence_off(session: Session, build_id: UUID) -> None:
    """Let nobody write any more by right of a part of this build."""
    session.execute(_FENCE_OFF, {"build_id": build_id})


def clean_up_later(session: Session, dataset_id: UUID, *, celery: Celery | None = None) -> None:
    """Have the vectors deleted that no index in use or under way holds."""
    outbox.write(session, CLEAN_DATASET_INDEX.name, [str(dataset_id)], celery=celery)


def actions() -> Iterable[str]:
    """The words ``change_dataset_index`` takes."""
    return [action.value for action in IndexAction]


def _wish(dataset: Dataset, action: str, provider: str | None, model: str | None) -> _Wish:
    if action not in actions():
        raise InvalidRequest(
            f"an index cannot be changed by {action!r}, only by: {', '.join(actions())}"
        )
    is_economy = dataset.indexing_technique == ECONOMY
    if action == IndexAction.REMOVE and (provider or model):
        raise InvalidRequest("remove makes no vectors: name no embedding model, or use update")
    if action in {IndexAction.UPDATE, IndexAction.REMOVE} and is_economy:
        raise InvalidRequest(
            f"dataset {dataset.name!r} is indexed as economy and has no vectors to {action}: "
            "give it some with add"
        )
    if provider and not model:
        raise InvalidRequest(f"name a model of provider {provider!r} as well")
    chosen = provider or dataset.embedding_provider, model or dataset.embedding_model
    if action != IndexAction.REMOVE:
        require_known_model(*chosen)
    return _Wish(IndexAction(action), *chosen)


def _wish_of(build: DatasetIndexBuild) -> _Wish:
    return _Wish(IndexAction(build.action), build.embedding_provider, build.embedding_model)


def _next_generation(session: Session, dataset: Dataset) -> int:
    query = select(func.max(DatasetIndexBuild.generation)).where(
        DatasetIndexBuild.dataset_id == dataset.id
    )
    return max(dataset.index_generation, session.scalar(query) or 0) + 1


@dataclass(frozen=True, slots=True)
class BuildProgress:
    """A change of a dataset's index as people want to see it.

    Attributes:
        documents: that take part, so far as is known.
        completed: those whose part is done.
    """

    id: UUID
    action: str
    status: str
    embedding_provider: str
    embedding_model: str
    documents: int
    completed: int
    error: str | None


_PROGRESS = text("""
    SELECT build.id, build.action, build.status, build.embedding_provider,
           build.embedding_model, count(part.id) AS documents,
           count(part.id) FILTER (WHERE part.status = 'completed') AS completed, build.error
    FROM dataset_index_builds AS build
    LEFT JOIN index_build_documents AS part ON part.build_id = build.id
    WHERE build.dataset_id = :dataset_id
    GROUP BY build.id
    ORDER BY build.generation DESC
    LIMIT :limit
""")


def index_builds(session: Session, dataset_id: AnyId, limit: int = 1) -> Sequence[BuildProgress]:
    """The dataset's changes of index, the latest first.

    Raises:
        InvalidRequest: the id is none.
    """
    dataset_id = checked_id("dataset_id", dataset_id)
    rows = session.execute(_PROGRESS, {"dataset_id": dataset_id, "limit": limit})
    return [BuildProgress(*row) for row in rows]
