"""Who may index a document now: the claim, and what each refusal means."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, any_, bindparam, func, select
from sqlalchemy.orm import Session

from shared.errors import LeaseHeld, SubjectGone
from shared.models import (
    Dataset,
    DatasetProcessRule,
    Document,
    DocumentStatus,
    DocumentVersion,
    UploadFile,
)
from shared.models.dataset import ECONOMY
from shared.models.document_status import IN_PROGRESS
from worker.delivery.lease import Ago, Lease, claim, claim_rows
from worker.stores.vectors import VectorPlace

_CLAIMABLE = (DocumentStatus.WAITING, *IN_PROGRESS)
#: Written once, so that the claim's statement is built once.
_CONDITIONS = (Document.indexing_status.in_(_CLAIMABLE), Document.is_paused.is_(False))
#: Nobody has it, and nobody died with it.
_UNTOUCHED = (*_CONDITIONS, Document.lease_expires_at.is_(None), Document.deaths == 0)
_CLAIMED = {
    "indexing_status": DocumentStatus.PARSING,
    "processing_started_at": Ago(),
    "stopped_at": None,
    "completed_segments": 0,
    "total_segments": 0,
}


@dataclass(frozen=True, slots=True)
class Job:
    """What one run needs to know of its document; read once, at the claim."""

    lease: Lease
    document_id: UUID
    tenant_id: UUID
    dataset_id: UUID
    version: int
    active_version: int | None
    name: str
    storage_key: str
    size_bytes: int
    #: Of the file's content, hexadecimal; ``None`` where there is none.
    sha256: str | None
    #: ``high_quality`` or ``economy``.
    technique: str
    doc_form: str
    #: The document's own rule or its dataset's, as it is stored; all ``None`` is automatic.
    rule_id: UUID | None
    rule_mode: str | None
    rules: dict[str, Any] | None
    embedding_provider: str
    embedding_model: str
    #: ``None`` until the dataset's first document is complete.
    embedding_dimension: int | None
    #: The index of the dataset that search uses.
    generation: int
    #: Where that index is; ``None`` where VECTOR_STORE says.
    vector_store: str | None
    #: What made the active version, as ``fingerprints.fingerprint`` says it.
    fingerprint: str | None
    #: What stopped the attempt before, if it could say.
    last_error: str | None

    @property
    def has_vectors(self) -> bool:
        """Whether its passages are embedded."""
        return self.technique != ECONOMY

    @property
    def owner(self) -> dict[str, UUID | int]:
        """The columns that every row of this run carries."""
        return {
            "tenant_id": self.tenant_id,
            "dataset_id": self.dataset_id,
            "document_id": self.document_id,
            "version": self.version,
        }

    @property
    def place(self) -> VectorPlace:
        """Where the vectors of this run belong."""
        return VectorPlace(
            self.dataset_id,
            self.document_id,
            self.version,
            self.generation,
            self.lease.row_id,
            self.lease.token,
            is_whole=self.lease.row_id == self.document_id,
        )


def claim_document(
    session: Session, document_id: UUID, dataset_id: UUID, lease_seconds: float
) -> Job | None:
    """Claim a document of a dataset for indexing, in the caller's transaction.

    Returns:
        The job, or ``None`` when there is nothing to do: it is completed,
        paused or ended already (a message delivered twice or late).

    Raises:
        SubjectGone: (superseded) the document was deleted.
        LeaseHeld: (superseded) another worker has it.
    """
    lease = claim(
        session,
        Document,
        document_id,
        lease_seconds,
        *_CONDITIONS,
        **_CLAIMED,
    )
    if lease is None:
        _explain_refusal(session, document_id, dataset_id)
        return None
    return _require_dataset(_job(session, lease, lease.row_id), dataset_id)


def claim_documents(
    session: Session, document_ids: Sequence[UUID], dataset_id: UUID, lease_seconds: float
) -> dict[UUID, Job]:
    """Claim those of a dataset's documents that are free, in the caller's transaction.

    Not what a worker died on, nor what anybody has locked.

    Raises:
        SubjectGone: one is of another dataset.
    """
    connection = session.connection()
    claimed = claim_rows(connection, Document, document_ids, lease_seconds, _UNTOUCHED, **_CLAIMED)
    if not claimed:
        return {}
    rows = {row.id: row for row in connection.execute(_JOBS, {"document_ids": list(claimed)})}
    return {
        one: _require_dataset(_job_of(rows[one], lease), dataset_id)
        for one, (lease, _) in claimed.items()
    }


def _require_dataset(job: Job, dataset_id: UUID) -> Job:
    if job.dataset_id != dataset_id:
        raise SubjectGone(f"dataset {dataset_id} has no document {job.document_id}")
    return job


def job_on_active_version(session: Session, lease: Lease, document_id: UUID) -> Job:
    """The document as somebody needs it who works on segments of its active version.

    Its rule is the one that version was made by. The document's own lease is not taken.

    Args:
        session: the caller's.
        lease: of what is worked on.
        document_id: a document that exists.
    """
    job = _job(session, lease, document_id)
    rule = session.execute(
        select(DatasetProcessRule.id, DatasetProcessRule.mode, DatasetProcessRule.rules)
        .join(DocumentVersion, DocumentVersion.process_rule_id == DatasetProcessRule.id)
        .where(
            DocumentVersion.document_id == document_id,
            DocumentVersion.version == job.active_version,
        )
    ).one_or_none()
    rule_id, mode, rules = rule or (None, None, None)
    version = job.active_version or 0
    return replace(job, version=version, rule_id=rule_id, rule_mode=mode, rules=rules)


def _explain_refusal(session: Session, document_id: UUID, dataset_id: UUID) -> None:
    row = session.execute(
        select(
            Document.indexing_status,
            Document.is_paused,
            Document.lease_owner,
            Document.lease_expires_at,
        ).where(Document.id == document_id, Document.dataset_id == dataset_id)
    ).one_or_none()
    if row is None:
        raise SubjectGone(f"dataset {dataset_id} has no document {document_id} (any more)")
    if row.indexing_status in _CLAIMABLE and not row.is_paused and row.lease_expires_at is not None:
        raise LeaseHeld(f"document {document_id} is being indexed by {row.lease_owner}")


_FACTS = (
    select(
        Document.id,
        Document.tenant_id,
        Document.dataset_id,
        Document.index_version,
        Document.active_version,
        Document.name,
        Document.error,
        Dataset.indexing_technique,
        Dataset.embedding_provider,
        Dataset.embedding_model,
        Dataset.embedding_dimension,
        Dataset.index_generation,
        Dataset.vector_store,
        UploadFile.storage_key,
        UploadFile.size_bytes,
        UploadFile.sha256,
        Document.fingerprint,
        Document.doc_form,
        DatasetProcessRule.id.label("rule_id"),
        DatasetProcessRule.mode,
        DatasetProcessRule.rules,
    )
    .select_from(Document)
    .join(Dataset, Dataset.id == Document.dataset_id)
    .outerjoin(UploadFile, UploadFile.id == Document.upload_file_id)
    .outerjoin(
        DatasetProcessRule,
        DatasetProcessRule.id == func.coalesce(Document.process_rule_id, Dataset.process_rule_id),
    )
)
_JOB = _FACTS.where(Document.id == bindparam("document_id"))
_JOBS = _FACTS.where(Document.id == any_(bindparam("document_ids", type_=ARRAY(Document.id.type))))


def _job(session: Session, lease: Lease, document_id: UUID) -> Job:
    row = session.connection().execute(_JOB, {"document_id": document_id}).one()
    return _job_of(row, lease)


def _job_of(row: Any, lease: Lease) -> Job:
    return Job(
        lease=lease,
        document_id=row.id,
        tenant_id=row.tenant_id,
        dataset_id=row.dataset_id,
        version=row.index_version,
        active_version=row.active_version,
        name=row.name,
        storage_key=row.storage_key or "",
        size_bytes=row.size_bytes or 0,
        sha256=row.sha256,
        technique=row.indexing_technique,
        doc_form=row.doc_form,
        rule_id=row.rule_id,
        rule_mode=row.mode,
        rules=row.rules,
        embedding_provider=row.embedding_provider,
        embedding_model=row.embedding_model,
        embedding_dimension=row.embedding_dimension,
        generation=row.index_generation,
        vector_store=row.vector_store,
        fingerprint=row.fingerprint,
        last_error=row.error,
    )
