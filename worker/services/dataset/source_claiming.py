"""Who may fetch a document's URL now, and what becomes of one whose message was given up."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import and_, or_, select, text
from sqlalchemy.orm import Session, sessionmaker

from shared.errors import LeaseHeld, SubjectGone
from shared.models import Document, DocumentStatus, UploadFile, UrlSource
from shared.submitting.files import storable
from worker.delivery.lease import Lease, claim, owner
from worker.providers.fetcher import Validators

_REST = (DocumentStatus.COMPLETED, DocumentStatus.ERROR)
#: A version that waits or is being indexed comes first: its content was fetched just now.
_CONDITIONS = (
    Document.data_source == "url",
    Document.is_paused.is_(False),
    or_(
        Document.indexing_status.in_(_REST),
        and_(Document.indexing_status == DocumentStatus.WAITING, Document.upload_file_id.is_(None)),
    ),
)
_GIVE_UP = text("""
    UPDATE documents
    SET indexing_status = CASE indexing_status WHEN 'completed' THEN 'completed' ELSE 'error' END,
        error = :reason, attempts = 0, deaths = 0,
        stopped_at = CASE indexing_status WHEN 'completed' THEN stopped_at
                     ELSE statement_timestamp() END,
        lease_token = lease_token + 1, lease_expires_at = NULL, lease_owner = NULL
    WHERE id = :id AND dataset_id = :dataset_id AND data_source = 'url' AND NOT is_paused
      AND (indexing_status IN ('completed', 'error')
           OR (indexing_status = 'waiting' AND upload_file_id IS NULL))
      AND (lease_expires_at IS NULL OR lease_expires_at < now() OR lease_owner = :owner)
""")
_REVIVE = text("""
    UPDATE documents
    SET indexing_status = 'waiting', error = NULL, stopped_at = NULL, attempts = 0, deaths = 0,
        queued_at = statement_timestamp()
    WHERE id = :id AND dataset_id = :dataset_id AND data_source = 'url'
      AND indexing_status = 'error' AND upload_file_id IS NULL
""")


@dataclass(frozen=True, slots=True)
class SourceJob:
    """What one sync needs to know; read once, at the claim."""

    lease: Lease
    document_id: UUID
    tenant_id: UUID
    status: DocumentStatus
    version: int
    active_version: int | None
    has_file: bool
    last_error: str | None
    url: str
    sha256: str | None
    #: ``None`` when the content has to come whatever the server thinks of it.
    validators: Validators | None

    @property
    def needs_new_version(self) -> bool:
        """Whether the version of now has had content, or serves."""
        return self.has_file or self.active_version is not None


def claim_source(
    session: Session, document_id: UUID, dataset_id: UUID, lease_seconds: float
) -> SourceJob | None:
    """Claim a document for a fetch of its URL, in the caller's transaction.

    Returns:
        The job, or ``None`` when there is nothing to fetch now: it is paused, or a
        version of it waits or is being indexed.

    Raises:
        SubjectGone: (superseded) the document was deleted.
        LeaseHeld: (superseded) another worker has it.
    """
    conditions = (Document.dataset_id == dataset_id, *_CONDITIONS)
    lease = claim(session, Document, document_id, lease_seconds, *conditions)
    if lease is None:
        _explain_refusal(session, document_id, dataset_id)
        return None
    row = session.execute(
        select(
            Document.tenant_id,
            Document.indexing_status,
            Document.index_version,
            Document.active_version,
            Document.error,
            UploadFile.sha256,
            UrlSource,
        )
        .join(UrlSource, UrlSource.document_id == Document.id)
        .outerjoin(UploadFile, UploadFile.id == Document.upload_file_id)
        .where(Document.id == document_id)
    ).one()
    source: UrlSource = row.UrlSource
    has_file = row.sha256 is not None
    validators = None
    if has_file and row.sha256 == source.sha256 and (source.etag or source.last_modified):
        validators = Validators(source.final_url or source.url, source.etag, source.last_modified)
    return SourceJob(
        lease=lease,
        document_id=document_id,
        tenant_id=row.tenant_id,
        status=DocumentStatus(row.indexing_status),
        version=row.index_version,
        active_version=row.active_version,
        has_file=has_file,
        last_error=row.error,
        url=source.url,
        sha256=row.sha256,
        validators=validators,
    )


def give_up_source(
    sessions: sessionmaker[Session], dataset_id: UUID, document_id: UUID, reason: str
) -> None:
    """Say in the row that the fetch was given up, unless somebody else works on it."""
    values = {"id": document_id, "dataset_id": dataset_id, "reason": storable(reason)}
    with sessions.begin() as session:
        session.execute(_GIVE_UP, {**values, "owner": owner()})


def revive_source(session: Session, dataset_id: UUID, document_id: UUID) -> None:
    """Let a document that was never fetched wait again, in the caller's transaction."""
    session.execute(_REVIVE, {"id": document_id, "dataset_id": dataset_id})


def _explain_refusal(session: Session, document_id: UUID, dataset_id: UUID) -> None:
    row = session.execute(
        select(Document.lease_owner, Document.lease_expires_at > text("now()")).where(
            Document.id == document_id, Document.dataset_id == dataset_id
        )
    ).one_or_none()
    if row is None:
        raise SubjectGone(f"dataset {dataset_id} has no document {document_id} (any more)")
    if row[1]:
        raise LeaseHeld(f"document {document_id} is being worked on by {row[0]}")
