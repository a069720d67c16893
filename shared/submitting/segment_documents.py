"""The documents whose segments are changed: locked, and asked whether they can be."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.errors import DocumentIndexingInProgress, InvalidRequest, NotFound
from shared.models import Document, DocumentSegment, DocumentStatus
from shared.submitting.ids import AnyId, checked_id, checked_ids

#: Segments that one call names: its transaction holds their documents' locks.
MAX_SEGMENTS = 1000
_SETTLED = (DocumentStatus.COMPLETED, DocumentStatus.ERROR)


def lock_document(session: Session, document_id: AnyId) -> Document:
    """The document, locked until the caller's transaction ends: its counters have no races.

    Raises:
        InvalidRequest: the id is none.
        NotFound: there is none.
    """
    found = _locked(session, [checked_id("document_id", document_id)])
    if not found:
        raise NotFound(f"there is no document {document_id}")
    return found[0]


def lock_documents_of(
    session: Session, segment_ids: Sequence[AnyId]
) -> dict[UUID, tuple[Document, list[UUID]]]:
    """The documents of segments, locked, each with those segments.

    Raises:
        NotFound: a segment does not exist.
        InvalidRequest: there are none, too many for one call, or an id is none.
    """
    wanted = checked_ids("segment_ids", segment_ids)
    if not wanted:
        raise InvalidRequest("name at least one segment")
    if len(wanted) > MAX_SEGMENTS:
        raise InvalidRequest(
            f"{len(wanted):,} segments are too many for one call: name up to {MAX_SEGMENTS:,}"
        )
    owners = _owners(session, wanted)
    documents = {one.id: one for one in _locked(session, set(owners.values()))}
    # Once more: one may have been deleted while we waited for the lock.
    owners = _owners(session, wanted)
    missing = [str(one) for one in wanted if owners.get(one) not in documents]
    if missing:
        raise NotFound(f"there is no segment {', '.join(missing[:10])}")
    segments: dict[UUID, list[UUID]] = {}
    for one in wanted:
        segments.setdefault(owners[one], []).append(one)
    return {owner: (documents[owner], ids) for owner, ids in segments.items()}


def require_settled(document: Document) -> int:
    """The version whose segments can be changed: the active one, while no other is made.

    Raises:
        DocumentIndexingInProgress: a new version is being made: the change would go with the old.
        InvalidRequest: the document is paused, or has no version that serves.
    """
    if document.indexing_status == DocumentStatus.PAUSED:
        raise InvalidRequest(f"{document.name} is paused: resume it, and let it finish first")
    if document.indexing_status not in _SETTLED:
        raise DocumentIndexingInProgress(
            f"{document.name} is being indexed: wait for it to finish, then ask again"
        )
    if document.active_version is None:
        raise InvalidRequest(
            f"{document.name} has no version that search sees ({document.error}): "
            "index it again first"
        )
    return document.active_version


def require_editable(document: Document) -> int:
    """The version whose content can be changed.

    Raises:
        DocumentIndexingInProgress: a new version is being made.
        InvalidRequest: the document is archived, disabled, paused, or serves no version.
    """
    if document.archived:
        raise InvalidRequest(f"{document.name} is archived: take it out of the archive first")
    if not document.enabled:
        raise InvalidRequest(f"{document.name} is disabled: enable it first")
    return require_settled(document)


def _locked(session: Session, ids: Iterable[UUID]) -> list[Document]:
    query = (
        select(Document)
        .where(Document.id.in_(ids))
        # In order: two calls about the same documents cannot deadlock.
        .order_by(Document.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    return list(session.scalars(query))


def _owners(session: Session, segment_ids: Sequence[UUID]) -> dict[UUID, UUID]:
    query = select(DocumentSegment.id, DocumentSegment.document_id)
    rows = session.execute(query.where(DocumentSegment.id.in_(segment_ids)))
    return {row.id: row.document_id for row in rows}
