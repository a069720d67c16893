"""A worker is killed; the next one of its host does its work long before its lease runs out."""

import time
from uuid import UUID

from sqlalchemy.orm import Session

from shared.models import DocumentStatus
from tests.fixtures.application import Reader, Submit
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker

LARGE = b"The lighthouse lamp turns once in twelve seconds, whatever the weather. " * 8000
SECONDS = 300
LEASE_SECONDS = 600


def test_its_work_goes_on_without_waiting_for_its_lease(
    dataset_id: UUID, submit: Submit, reader: Reader, start_worker: StartWorker, session: Session
) -> None:
    variables = {"PRESENCE_SECONDS": "1", "DELIVERY_LEASE_SECONDS": str(LEASE_SECONDS)}
    slowly = {"INDEXING_BATCH_SEGMENTS": "1", **variables}
    workers = [start_worker("prefork", 1, **slowly) for _ in range(2)]
    (one,) = submit({"large.txt": LARGE}, announce=True)
    eventually(lambda: reader.document(one.document_id).completed_segments > 0, SECONDS)

    owner = str(reader.document(one.document_id).lease_owner)
    (victim,) = [one for one in workers if owner.startswith(one.name)]
    victim.kill()
    killed = time.monotonic()

    (document,) = reader.await_end(one.document_id, seconds=SECONDS)
    assert document.indexing_status == DocumentStatus.COMPLETED
    assert document.lease_token > 1
    assert time.monotonic() - killed < LEASE_SECONDS / 2
