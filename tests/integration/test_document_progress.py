"""Progress from SQL: done, total when it is known, an honest estimate before."""

from uuid import UUID, uuid4

from sqlalchemy.orm import Session

from shared.models import DocumentStatus, db
from shared.submitting.progress import document_progress
from tests.fixtures.application import Submit
from tests.fixtures.outbox_rows import Outbox, statements
from worker.services.dataset.indexing import index_document
from worker.wiring import indexing_needs

UNDER_WAY = """
    UPDATE documents SET indexing_status = 'indexing', completed_segments = 30,
        lease_owner = 'a/1', processing_started_at = now() - interval '1000 s'
    WHERE name = 'b.txt'
"""
FINISHED = """
    UPDATE documents SET indexing_status = 'completed', completed_segments = 10,
        total_segments = 10, active_version = 1 WHERE name = 'a.txt'
"""


def test_a_finished_document_knows_its_total(
    session: Session, dataset_id: UUID, submit: Submit
) -> None:
    (one,) = submit({"kitchen.txt": b"The oven is cleaned on Fridays.\n" * 400})
    index_document(one.document_id, dataset_id, indexing_needs())

    (seen,) = document_progress(session, [one.document_id])

    assert seen.stage is DocumentStatus.COMPLETED
    assert seen.is_at_rest
    assert seen.total_segments == seen.done_segments > 1
    assert (seen.segments_per_second, seen.eta_seconds, seen.estimated_segments) == (None,) * 3
    moments = [seen.started_at, seen.parsed_at, seen.cleaned_at, seen.split_at, seen.completed_at]
    assert all(moments)


def test_a_running_one_is_estimated_by_its_datasets_finished_ones(
    session: Session, submit: Submit, rows: Outbox
) -> None:
    _, running = submit({"a.txt": b"x" * 1000, "b.txt": b"y" * 9000})
    rows.change(UNDER_WAY)
    (alone,) = document_progress(session, [running.document_id])
    assert (alone.total_segments, alone.estimated_segments, alone.eta_seconds) == (None,) * 3
    assert alone.shown_segments == "30, at least"
    session.rollback()

    rows.change(FINISHED)
    (seen,) = document_progress(session, [running.document_id])

    assert (seen.total_segments, seen.estimated_segments, seen.done_segments) == (None, 90, 30)
    assert seen.segments_per_second is not None
    assert 0.025 < seen.segments_per_second <= 0.03
    assert seen.eta_seconds is not None
    assert 2000 <= seen.eta_seconds < 2400
    assert seen.shown_segments == "30 of about 90"

    session.rollback()
    rows.change("UPDATE documents SET completed_segments = 95 WHERE name = 'b.txt'")
    (beyond,) = document_progress(session, [running.document_id])
    assert (beyond.shown_segments, beyond.eta_seconds) == ("95, at least", None)


def test_many_are_one_query_and_the_deleted_are_left_out(session: Session, submit: Submit) -> None:
    made = submit({f"{number}.txt": b"x" for number in range(20)})
    ids = [one.document_id for one in made]
    with statements(db.engine) as sent:
        seen = document_progress(session, [*ids, uuid4()])
    assert [one.document_id for one in seen] == ids
    assert len([one for one in sent if "documents" in one]) == 1
