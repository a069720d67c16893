"""A dataset's vectors are moved to another vector store, or made by another model, and verified.

A migration is a change of the dataset's index: built beside the one in use, switched to
at once. What it has besides is a place of its own, and that it is verified before it serves.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from celery import Celery
from sqlalchemy.orm import Session

from shared.errors import IndexChangeInProgress, InvalidRequest
from shared.models import Dataset, DatasetIndexBuild
from shared.models.dataset import ECONOMY, VECTOR_STORES
from shared.sql import text_by_database
from shared.submitting.dataset_index import (
    IndexAction,
    begin_build,
    locked_dataset,
    running_build,
)
from shared.submitting.embedding_models import require_known_model
from shared.submitting.ids import AnyId

SAMPLES = 100


@dataclass(frozen=True, slots=True)
class Destination:
    """Where vectors are to be.

    Attributes:
        default_store: where those are whose dataset does not say: what VECTOR_STORE says.
        store: the vector store; the dataset's own, when unset.
        provider: of embeddings, with ``model``; the dataset's own, when unset.
    """

    default_store: str
    store: str | None = None
    provider: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Migration:
    """What is done, or would be, for one dataset.

    Attributes:
        build_id: of the change under way; ``None``: nothing is to be done.
        is_joined: whether somebody asked for the same before, and it is under way.
        requested_by: who asked for it.
    """

    dataset_id: UUID
    from_store: str
    to_store: str
    from_model: str
    to_model: str
    build_id: UUID | None
    is_joined: bool = False
    requested_by: str | None = None

    @property
    def is_needed(self) -> bool:
        """Whether the vectors are not there yet."""
        return (self.from_store, self.from_model) != (self.to_store, self.to_model)

    @property
    def is_copied(self) -> bool:
        """Whether vectors are taken over as they are: nothing is embedded."""
        return self.from_model == self.to_model


def migrate_dataset_vectors(
    session: Session,
    dataset_id: AnyId,
    destination: Destination,
    *,
    samples: int = SAMPLES,
    batch_segments: int | None = None,
    requested_by: str | None = None,
    is_trial: bool = False,
    celery: Celery | None = None,
) -> Migration:
    """Have a dataset's vectors moved, in the caller's transaction.

    Search goes on with the old ones until all are there and verified; then they are
    deleted. Asked again it goes on with what is under way; when all is done, it does nothing.

    Args:
        session: the caller's; commit it as usual.
        dataset_id: whose.
        destination: where to.
        samples: how many searches of old and new are compared before the new one serves.
        batch_segments: vectors copied or embedded together; INDEXING_BATCH_SEGMENTS, when unset.
        requested_by: who asks; others who ask are told.
        is_trial: say what would be done, and write nothing.
        celery: publishes right after the commit; without it a worker's relay does.

    Raises:
        InvalidRequest: no such store or model, or the dataset has no vectors.
        IndexChangeInProgress: its index is being changed otherwise.
        NotFound: there is no such dataset.
    """
    dataset = locked_dataset(session, dataset_id)
    if dataset.indexing_technique == ECONOMY:
        raise InvalidRequest(
            f"dataset {dataset.name!r} is indexed as economy and has no vectors to move: "
            "give it some with `rag-worker datasets reindex`"
        )
    build = _build(dataset, destination, samples, batch_segments, requested_by)
    running = running_build(session, dataset.id)
    if running is not None:
        _require_same(session, dataset, running, build)
        return _migration(dataset, destination, running, is_joined=True)
    migration = _migration(dataset, destination, build)
    if migration.is_needed and not is_trial:
        begin_build(session, dataset, build, celery)
        return _migration(dataset, destination, build)
    return migration


def _build(
    dataset: Dataset,
    destination: Destination,
    samples: int,
    batch_segments: int | None,
    requested_by: str | None,
) -> DatasetIndexBuild:
    store = destination.store or dataset.vector_store or destination.default_store
    if store not in VECTOR_STORES:
        raise InvalidRequest(
            f"there is no vector store {store!r}, only: {', '.join(VECTOR_STORES)}"
        )
    if samples < 0 or (batch_segments is not None and batch_segments < 1):
        raise InvalidRequest("samples are 0 or more, a batch is 1 segment or more")
    if destination.provider is not None or destination.model is not None:
        require_known_model(destination.provider or "", destination.model or "")
    return DatasetIndexBuild(
        action=IndexAction.UPDATE.value,
        embedding_provider=destination.provider or dataset.embedding_provider,
        embedding_model=destination.model or dataset.embedding_model,
        vector_store=store,
        samples=samples,
        batch_segments=batch_segments,
        requested_by=requested_by,
    )


def _require_same(
    session: Session, dataset: Dataset, running: DatasetIndexBuild, wanted: DatasetIndexBuild
) -> None:
    if running.samples is not None and _goal(running) == _goal(wanted):
        return
    (progress,) = migration_progress(session, [running.id])
    raise IndexChangeInProgress(
        f"the index of dataset {dataset.name!r} is being changed already ({running.action} to "
        f"{running.embedding_provider}/{running.embedding_model} in "
        f"{running.vector_store or 'the default store'}, since {running.created_at:%F %T} UTC, "
        f"asked for by {running.requested_by or 'a producer'}; {progress.held_by}): "
        "wait for it to end, then migrate"
    )


def _goal(build: DatasetIndexBuild) -> tuple[str | None, str, str]:
    return build.vector_store, build.embedding_provider, build.embedding_model


def _migration(
    dataset: Dataset, destination: Destination, build: DatasetIndexBuild, *, is_joined: bool = False
) -> Migration:
    return Migration(
        dataset_id=dataset.id,
        from_store=dataset.vector_store or destination.default_store,
        to_store=build.vector_store or destination.default_store,
        from_model=f"{dataset.embedding_provider}/{dataset.embedding_model}",
        to_model=f"{build.embedding_provider}/{build.embedding_model}",
        build_id=build.id,
        is_joined=is_joined,
        requested_by=build.requested_by,
    )


@dataclass(frozen=True, slots=True)
class MigrationProgress:
    """How far a migration is.

    Attributes:
        status: ``running``, ``completed``, ``error`` or ``superseded``.
        documents: that take part, so far as is known.
        moved: those whose vectors are there.
        verified: those of which each vector was found there.
        vectors: how many those are.
        owners: the processes that have a part in hand.
        waiting_for: what stopped a part that will be tried again.
    """

    build_id: UUID
    dataset_id: UUID
    status: str
    documents: int
    moved: int
    verified: int
    vectors: int
    owners: Sequence[str]
    waiting_for: str | None
    error: str | None

    @property
    def held_by(self) -> str:
        """Who works on it, for people."""
        return f"held by {', '.join(self.owners)}" if self.owners else "no worker has it in hand"


_PROGRESS = text_by_database(
    """
    SELECT build.id, build.dataset_id, build.status, count(part.id) AS documents,
           count(part.id) FILTER (WHERE part.status = 'completed') AS moved,
           count(part.id) FILTER (WHERE part.verified_token = part.lease_token) AS verified,
           coalesce(sum(part.vectors) FILTER (WHERE part.verified_token = part.lease_token), 0),
           coalesce(array_agg(DISTINCT part.lease_owner) FILTER (
               WHERE part.lease_owner IS NOT NULL AND part.lease_expires_at > now()), '{}'),
           min(part.error) FILTER (WHERE part.status = 'waiting'), build.error
    FROM dataset_index_builds AS build
    LEFT JOIN index_build_documents AS part ON part.build_id = build.id
    WHERE build.id = ANY(CAST(:ids AS uuid[]))
    GROUP BY build.id
    ORDER BY build.created_at, build.id
""",
    mariadb="""
    SELECT build.id, build.dataset_id, build.status, COUNT(part.id) AS documents,
           COUNT(CASE WHEN part.status = 'completed' THEN 1 END) AS moved,
           COUNT(CASE WHEN part.verified_token = part.lease_token THEN 1 END) AS verified,
           CAST(COALESCE(SUM(CASE WHEN part.verified_token = part.lease_token
                             THEN part.vectors END), 0) AS SIGNED) AS vectors,
           CONCAT('[', COALESCE(GROUP_CONCAT(DISTINCT CASE
               WHEN part.lease_expires_at > NOW(6) THEN JSON_QUOTE(part.lease_owner)
           END), ''), ']') AS owners,
           MIN(CASE WHEN part.status = 'waiting' THEN part.error END) AS waiting_for, build.error
    FROM dataset_index_builds AS build
    LEFT JOIN index_build_documents AS part ON part.build_id = build.id
    WHERE build.id IN :IDS__ids
    GROUP BY build.id
    ORDER BY build.created_at, build.id /* json: owners */
""",
)


def migration_progress(session: Session, build_ids: Collection[UUID]) -> list[MigrationProgress]:
    """How far migrations are; one of a dataset that was deleted is left out."""
    rows = session.execute(_PROGRESS, {"ids": [str(one) for one in build_ids]})
    return [MigrationProgress(*row) for row in rows]
