"""The index is made to agree with the rows of segments: after enabling, disabling, deleting.

Search goes by the rows: a disabled segment is left out inside its queries, from the commit
on. Its vector and words stay, so that enabling it embeds nothing. What a message says is
never the truth about a flag: delivered late, it would undo what came after it.
"""

from collections.abc import Sequence
from functools import partial
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.models import ChildChunk, Dataset, Document, DocumentSegment, SegmentEdit
from shared.models.dataset import ECONOMY
from shared.models.process_rule import DocForm
from shared.models.segment_keyword import SegmentKeywords
from shared.models.segment_work import COMPLETED, ERROR, WAITING
from shared.submitting.segment_announcing import announce_edits
from shared.submitting.segment_counters import Difference, add_to_counters
from shared.submitting.segment_switches import remove_segments
from shared.submitting.segments import write_edit
from worker.services.dataset.needs import IndexingNeeds


def settle_segments(segment_ids: Sequence[UUID], needs: IndexingNeeds) -> None:
    """See to it that enabled segments can be found; safe to repeat.

    One whose indexing failed is tried again, and one that search could not find, although it
    is completed, is indexed anew. All others cost nothing: no call of a model.
    """
    with needs.sessions() as session:
        owners = set(
            session.scalars(
                select(DocumentSegment.document_id).where(
                    DocumentSegment.id.in_(segment_ids), DocumentSegment.enabled
                )
            )
        )
    for document_id in sorted(owners):
        lost = _lost(document_id, segment_ids, needs)
        with needs.sessions.begin() as session:
            _settle(session, document_id, segment_ids, lost)


def forget_segments(document_id: UUID, segment_ids: Sequence[UUID], needs: IndexingNeeds) -> None:
    """Delete segments of a document, and whatever is left of such as are deleted already.

    In whatever state segment and document are; ids are never used again, so this is safe to
    repeat, and late.
    """
    with needs.sessions.begin() as session:
        # Locked for its counters; without a row its clean-up has them, and the rest.
        session.execute(
            select(Document.id).where(Document.id == document_id).with_for_update(key_share=True)
        )
        remove_segments(session, document_id, segment_ids)


def _lost(document_id: UUID, segment_ids: Sequence[UUID], needs: IndexingNeeds) -> set[UUID]:
    """Completed segments that a search cannot find; no lock waits for a vector store."""
    with needs.sessions() as session:
        document = session.get(Document, document_id)
        if document is None:
            return set()
        done = _enabled(session, document, segment_ids)
        ids = [one.id for one in done if one.status == COMPLETED]
        return set(ids) - _found(session, document, ids, needs)


def _enabled(
    session: Session, document: Document, segment_ids: Sequence[UUID]
) -> Sequence[DocumentSegment]:
    return session.scalars(
        select(DocumentSegment).where(
            DocumentSegment.id.in_(segment_ids),
            DocumentSegment.document_id == document.id,
            DocumentSegment.version == document.active_version,
            DocumentSegment.enabled,
        )
    ).all()


def _settle(
    session: Session, document_id: UUID, segment_ids: Sequence[UUID], lost: set[UUID]
) -> None:
    document = session.scalars(
        select(Document).where(Document.id == document_id).with_for_update(key_share=True)
    ).one_or_none()
    if document is None:
        return
    segments = _enabled(session, document, segment_ids)
    edits = {
        one.segment_id: one
        for one in session.scalars(
            select(SegmentEdit)
            .where(SegmentEdit.segment_id.in_([segment.id for segment in segments]))
            .with_for_update()
        )
    }
    work = [edit for edit in edits.values() if edit.status == ERROR]
    for edit in work:
        edit.status, edit.error, edit.attempts, edit.deaths = WAITING, None, 0, 0
    # What was changed since is found, or about to be.
    again = [
        one
        for one in segments
        if one.id in lost and one.status == COMPLETED and one.id not in edits
    ]
    for segment in again:
        edit = write_edit(session, segment, segment.content, segment.answer, segment.keywords)
        work.append(edit)
    if again:
        add_to_counters(session, document_id, Difference(completed=-len(again)))
    waiting = {edit.segment_id for edit in work}
    for segment in segments:
        if segment.id in waiting:
            segment.status, segment.error = WAITING, None
    announce_edits(session, work)


def _found(
    session: Session, document: Document, ids: Sequence[UUID], needs: IndexingNeeds
) -> set[UUID]:
    """Those that have what a search by vector finds or, in economy, words."""
    index = session.execute(
        select(Dataset.indexing_technique, Dataset.index_generation, Dataset.vector_store).where(
            Dataset.id == document.dataset_id
        )
    ).one()
    if index.indexing_technique == ECONOMY:
        query = select(SegmentKeywords.segment_id).where(SegmentKeywords.segment_id.in_(ids))
        return set(session.scalars(query))
    fetch = partial(
        needs.vectors.at(index.vector_store).fetch,
        session,
        document.id,
        document.active_version or 0,
        index.index_generation,
    )
    if document.doc_form != DocForm.HIERARCHICAL:
        return set(fetch(ids))
    rows = session.execute(
        select(ChildChunk.id, ChildChunk.segment_id).where(ChildChunk.segment_id.in_(ids))
    )
    parents = {row.id: row.segment_id for row in rows}
    vectors = fetch(list(parents))
    return {parents[one] for one in vectors} - {
        parent for child, parent in parents.items() if child not in vectors
    }
