"""The datasets that ``rag-worker vdb-migrate`` is about, and what becomes of each."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from shared.errors import NotFound
from shared.models import Dataset, Document, Tenant, db
from shared.models.dataset import ECONOMY
from shared.submitting.vector_migration import Migration, MigrationProgress
from worker.cli.documents import DEFAULT_NAME
from worker.cli.printing import printable


@dataclass(frozen=True, slots=True)
class Chosen:
    """A dataset, and how much it holds."""

    id: UUID
    tenant: str
    name: str
    is_economy: bool
    documents: int
    segments: int

    @property
    def label(self) -> str:
        """Tenant and name, for people."""
        return printable(f"{self.tenant}/{self.name}")


@dataclass(slots=True)
class Outcome:
    """What becomes of a dataset.

    Attributes:
        status: ``planned``, ``nothing to do`` or ``skipped``; then the migration's own.
    """

    chosen: Chosen
    status: str
    migration: Migration | None = None
    progress: MigrationProgress | None = None
    reason: str | None = None

    @property
    def has_failed(self) -> bool:
        """Whether its vectors will not get there by themselves."""
        return self.status in {"error", "superseded"}

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        chosen, migration, progress = self.chosen, self.migration, self.progress
        made: dict[str, object] = {
            "dataset_id": chosen.id,
            "tenant": chosen.tenant,
            "name": chosen.name,
            "status": self.status,
            "reason": self.reason,
            "documents": chosen.documents,
        }
        if migration is not None:
            made |= {
                "build_id": migration.build_id,
                "from_store": migration.from_store,
                "to_store": migration.to_store,
                "from_model": migration.from_model,
                "to_model": migration.to_model,
                "copied": migration.is_copied,
            }
        if progress is not None:
            made |= {
                "documents": progress.documents,
                "moved": progress.moved,
                "verified": progress.verified,
                "vectors": progress.vectors,
            }
        return made


def chosen_datasets(dataset: str | None, tenant: str | None) -> list[Chosen]:
    """The datasets that the options mean, by tenant and name.

    Raises:
        NotFound: there is no such dataset, or no such tenant.
    """
    query = (
        select(
            Dataset.id,
            Tenant.name,
            Dataset.name,
            Dataset.indexing_technique == ECONOMY,
            func.count(Document.id).filter(Document.active_version.is_not(None)),
            func.coalesce(func.sum(Document.completed_segments), 0),
        )
        .join(Tenant, Tenant.id == Dataset.tenant_id)
        .outerjoin(Document, Document.dataset_id == Dataset.id)
        .group_by(Dataset.id, Tenant.name)
        .order_by(Tenant.name, Dataset.name)
    )
    id_ = None if dataset is None else _id(dataset)
    if id_ is not None:
        query = query.where(Dataset.id == id_)
    elif dataset is not None:
        query = query.where(Dataset.name == dataset, _is_tenant(tenant or DEFAULT_NAME))
    if tenant is not None:
        query = query.where(_is_tenant(tenant))
    with Session(db.engine) as session:
        if tenant is not None and not session.scalar(select(Tenant.id).where(_is_tenant(tenant))):
            raise NotFound(f"there is no tenant {tenant!r}")
        found = [Chosen(*row) for row in session.execute(query)]
    if dataset is not None and not found:
        where = "" if tenant is None and id_ is not None else f"tenant {tenant or DEFAULT_NAME!r}: "
        raise NotFound(f"{where}there is no dataset {dataset!r}: see `rag-worker datasets list`")
    return found


def shown(outcome: Outcome) -> str:
    """One line for people."""
    chosen, migration, progress = outcome.chosen, outcome.migration, outcome.progress
    line = f"{chosen.label}: "
    if migration is not None:
        store = _arrow(migration.from_store, migration.to_store)
        model = _arrow(migration.from_model, migration.to_model)
        how = "copied" if migration.is_copied else "embedded anew"
        line += f"{store}, {model}"
        if outcome.status == "planned":
            how = "goes on" if migration.is_joined else f"to be {how}"
            return f"{line}; {chosen.documents} documents, {chosen.segments} segments {how}"
        line += "; "
    line += outcome.status
    if progress is not None and outcome.status == "completed":
        line += (
            f", {progress.documents} documents with {progress.vectors} vectors {how} and verified"
        )
    elif progress is not None:
        line += f", {progress_words(progress)}"
    return line + (f": {printable(outcome.reason)}" if outcome.reason else "")


def progress_words(progress: MigrationProgress) -> str:
    """How far it is, for people."""
    return f"{progress.moved} of {progress.documents} documents moved, {progress.verified} verified"


def _arrow(before: str, after: str) -> str:
    return printable(before if before == after else f"{before} → {after}")


def _is_tenant(given: str) -> ColumnElement[bool]:
    id_ = _id(given)
    return Tenant.name == given if id_ is None else or_(Tenant.name == given, Tenant.id == id_)


def _id(given: str) -> UUID | None:
    try:
        return UUID(given)
    except ValueError:
        return None
