"""A worker that is killed in the middle of an import: every row goes in once."""

import io
from uuid import UUID

from flask import Flask
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shared.models import Dataset, DocumentSegment, SegmentImport, SegmentKeywords, SegmentVector
from shared.submitting.files import store_file
from shared.submitting.segments import import_segments
from tests.fixtures.application import Reader, Submit
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker
from worker.services.dataset.indexing import index_document
from worker.wiring import indexing_needs

SECONDS = 300
ROWS = 1500
QUICK = {
    "DELIVERY_LEASE_SECONDS": "2",
    "OUTBOX_REDELIVERY_SECONDS": "2",
    "SWEEP_SECONDS": "1",
    "INDEXING_BATCH_SEGMENTS": "5",
}


def test_every_row_goes_in_once(
    app: Flask,
    session: Session,
    dataset_id: UUID,
    submit: Submit,
    reader: Reader,
    start_worker: StartWorker,
) -> None:
    (one,) = submit({"buoys.txt": b"The buoys of the bay."})
    index_document(one.document_id, dataset_id, indexing_needs())
    tenant_id = session.get_one(Dataset, dataset_id).tenant_id
    rows = [f"Buoy number {number} is green." for number in range(ROWS)]
    table = io.BytesIO("\n".join(["content", *rows]).encode())
    file = store_file(app.extensions["storage"], tenant_id, "buoys.csv", table)

    def far() -> tuple[str, int]:
        session.rollback()
        row = session.get_one(SegmentImport, made, populate_existing=True)
        return row.status, row.imported_rows

    first = start_worker("prefork", 1, **QUICK)
    made = import_segments(session, one.document_id, file, celery=app.extensions["celery"])
    session.commit()
    eventually(lambda: far()[1] > 0, SECONDS, step=0.01)
    first.kill()
    status, imported = far()
    assert status == "indexing"
    assert 0 < imported < ROWS

    start_worker("prefork", 1, **QUICK | {"INDEXING_BATCH_SEGMENTS": "256"})
    eventually(lambda: far() == ("completed", ROWS), SECONDS)

    contents = session.scalars(
        select(DocumentSegment.content)
        .where(DocumentSegment.document_id == one.document_id)
        .order_by(DocumentSegment.position)
    ).all()
    assert contents == ["The buoys of the bay.", *rows]
    for table_of in (SegmentVector, SegmentKeywords):
        found = session.scalar(select(func.count()).where(table_of.document_id == one.document_id))
        assert found == 1 + ROWS
    document = reader.document(one.document_id)
    assert (document.total_segments, document.completed_segments) == (1 + ROWS, 1 + ROWS)
