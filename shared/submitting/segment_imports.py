"""A stored table becomes segments: the row and the message about it, in one transaction."""

from pathlib import PurePath
from uuid import UUID, uuid4

from celery import Celery
from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.errors import InvalidRequest
from shared.models import SegmentImport
from shared.models.segment_work import INDEXING, WAITING
from shared.submitting.files import StoredFile, require_stored, upload_files
from shared.submitting.ids import AnyId
from shared.submitting.segment_announcing import announce_imports
from shared.submitting.segment_documents import lock_document, require_editable

_ENDINGS = (".csv", ".tsv")


def import_segments(
    session: Session, document_id: AnyId, file: StoredFile, *, celery: Celery | None = None
) -> UUID:
    """Add the rows of a table at the end of a document, as segments.

    Its columns are ``content`` (or ``question``) and, for ``qa_model`` documents, ``answer``;
    without a row of names they are the first two. A row that cannot be a segment is
    reported by its number, the others go in.

    Args:
        session: the caller's transaction.
        document_id: where they belong.
        file: the stored table.
        celery: publishes right after the commit; without it a worker's relay does.

    Returns:
        The id of the import: its row says how far it is, and what it refused.

    Raises:
        NotFound: there is no such document.
        DocumentIndexingInProgress: it is being indexed.
        InvalidRequest: the file is no table or empty, the same one is being imported, or the
            document is archived, disabled, paused, or serves no version.
    """
    document = lock_document(session, document_id)
    version = require_editable(document)
    require_stored(file)
    if PurePath(file.name).suffix.lower() not in _ENDINGS:
        raise InvalidRequest(
            f"{file.name} is no table: segments are imported from {' or '.join(_ENDINGS)} files"
        )
    if file.size_bytes == 0:
        raise InvalidRequest(f"{file.name} has 0 bytes: give it rows with content")
    upload_id = upload_files(session, document.tenant_id, [file])[file.sha256, file.name]
    running = session.scalars(
        select(SegmentImport.id).where(
            SegmentImport.document_id == document.id,
            SegmentImport.upload_file_id == upload_id,
            SegmentImport.status.in_((WAITING, INDEXING)),
        )
    ).first()
    if running is not None:
        raise InvalidRequest(
            f"{file.name} is being imported into {document.name} already, as {running}: "
            "wait for it to finish"
        )
    made = SegmentImport(
        id=uuid4(),
        tenant_id=document.tenant_id,
        dataset_id=document.dataset_id,
        document_id=document.id,
        version=version,
        upload_file_id=upload_id,
        status=WAITING,
    )
    session.add(made)
    session.flush()
    announce_imports(session, [made], celery=celery)
    return made.id
