"""What the database says about a document or a dataset."""

from collections import Counter
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shared.errors import NotFound
from shared.models import (
    Dataset,
    Document,
    DocumentStatus,
    GenerationKind,
    GenerationWork,
    Tenant,
)
from shared.submitting.dataset_index import BuildProgress, index_builds

#: More differ in their ids only.
_REASONS = 5
_SHOWN_COLUMNS = (
    "id",
    "name",
    "indexing_status",
    "error",
    "index_version",
    "active_version",
    "attempts",
    "total_segments",
    "completed_segments",
    "word_count",
    "tokens",
    "created_at",
    "processing_started_at",
    "parsing_completed_at",
    "cleaning_completed_at",
    "splitting_completed_at",
    "completed_at",
    "stopped_at",
    "indexing_latency",
)


def document_overview(session: Session, document_id: UUID) -> dict[str, object]:
    """One document's columns.

    Raises:
        NotFound: there is none of this id.
    """
    document = session.get(Document, document_id)
    if document is None:
        raise NotFound(f"there is no document {document_id}")
    shown = {column: getattr(document, column) for column in _SHOWN_COLUMNS}
    return shown | {"summary": _summary_line(session, document_id)}


def _summary_line(session: Session, document_id: UUID) -> str | None:
    """Where the document's summary stands; ``None`` when nobody asked for one."""
    work = session.scalars(
        select(GenerationWork).where(
            GenerationWork.kind == GenerationKind.DOCUMENT_SUMMARY,
            GenerationWork.subject_id == document_id,
        )
    ).one_or_none()
    if work is None:
        return None
    why = f": {work.error}" if work.error else f", by {work.model}" if work.model else ""
    return f"{work.status}{why}"


def dataset_overview(session: Session, dataset_id: UUID) -> dict[str, object]:
    """How many documents stand where, what holds some up, and why some ended as error."""
    counts = session.execute(
        select(
            Document.indexing_status,
            func.count(),
            func.coalesce(func.sum(Document.completed_segments), 0),
        )
        .where(Document.dataset_id == dataset_id)
        .group_by(Document.indexing_status)
    ).all()
    ended = session.execute(
        select(Document.id, Document.name, Document.error)
        .where(Document.dataset_id == dataset_id, Document.indexing_status == DocumentStatus.ERROR)
        .order_by(Document.position)
        .limit(100)
    )
    lacking, having = session.execute(
        select(
            func.count() - func.count(Document.keyword_segments),
            func.count(Document.keyword_segments),
        ).where(
            Document.dataset_id == dataset_id,
            Document.active_version.is_not(None),
            Document.enabled,
            Document.archived.is_(False),
        )
    ).one()
    held_up = session.execute(
        select(Document.error, func.count())
        .where(
            Document.dataset_id == dataset_id,
            Document.indexing_status == DocumentStatus.WAITING,
            Document.error.is_not(None),
        )
        .group_by(Document.error)
        .order_by(func.count().desc())
        .limit(_REASONS)
    ).all()
    builds = index_builds(session, dataset_id)
    documents = Counter({str(row[0]): int(row[1]) for row in counts})
    return {
        "dataset": str(dataset_id),
        "vector_store": session.scalar(
            select(Dataset.vector_store).where(Dataset.id == dataset_id)
        ),
        "documents": documents.total(),
        "segments": sum(int(row[2]) for row in counts),
        "statuses": dict(sorted(documents.items())),
        # What stopped their last attempt, and how many it stopped.
        "held_up": {row[0]: row[1] for row in held_up} or None,
        # Of one that is searched by words: documents that only their vectors find.
        "without_keywords": lacking if having else 0,
        "index_build": build_line(builds[0]) if builds else None,
        "errors": [
            {"document_id": str(row.id), "name": row.name, "reason": row.error} for row in ended
        ],
    }


def build_line(build: BuildProgress) -> str:
    """A change of a dataset's index in one line."""
    model = (
        "" if build.action == "remove" else f" {build.embedding_provider}/{build.embedding_model}"
    )
    parts = f"{build.completed} of {build.documents} documents"
    reason = f": {build.error}" if build.error else ""
    return f"{build.action}{model} {build.status}, {parts}{reason}"


def find_dataset(session: Session, tenant: str, dataset: str) -> UUID:
    """The id of a tenant's dataset.

    Raises:
        NotFound: there is none of these names.
    """
    query = (
        select(Dataset.id)
        .join(Tenant, Tenant.id == Dataset.tenant_id)
        .where(Tenant.name == tenant, Dataset.name == dataset)
    )
    found = session.scalars(query).one_or_none()
    if found is None:
        raise NotFound(
            f"tenant {tenant!r} has no dataset {dataset!r}: `rag-worker index` makes one"
        )
    return found
