"""The indexing run against a real database, in this process."""

from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shared.models import Document, DocumentSegment, DocumentStatus, SegmentVector
from tests.fixtures.application import Submit
from worker.services.dataset.indexing import index_document
from worker.wiring import indexing_needs


def test_a_document_becomes_searchable(session: Session, dataset_id: UUID, submit: Submit) -> None:
    (submission,) = submit({"kitchen.txt": b"The oven is cleaned on Fridays.\n" * 400})
    document_id = submission.document_id

    index_document(document_id, dataset_id, indexing_needs())

    document = session.get_one(Document, document_id, populate_existing=True)
    segments = session.scalar(select(func.count()).select_from(DocumentSegment))
    vectors = session.scalar(select(func.count()).select_from(SegmentVector))
    assert document.indexing_status == DocumentStatus.COMPLETED
    assert document.active_version == document.index_version == 1
    assert document.total_segments == document.completed_segments == segments == vectors
    assert segments
    assert segments > 1
    assert document.error is None
    assert document.lease_expires_at is None
    moments = [
        document.processing_started_at,
        document.parsing_completed_at,
        document.cleaning_completed_at,
        document.splitting_completed_at,
        document.completed_at,
    ]
    assert all(moments)
    assert moments == sorted(moments)
    assert document.word_count >= 400 * 6
    assert document.tokens > 0
