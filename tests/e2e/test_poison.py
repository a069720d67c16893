"""What kills its worker is given up in the end, and takes nothing else along."""

from uuid import UUID

import psutil

from shared.models import Document, DocumentStatus
from tests.fixtures.application import Reader, Submit
from tests.fixtures.messages import Messages
from tests.fixtures.poison import POISON
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker

HARMLESS = b"The gull follows the boat."
#: Too large to share a message.
LONE = (POISON + " ").encode() * 30_000
DEATHS = 2


def test_what_kills_its_worker_ends_and_everything_else_completes(
    dataset_id: UUID,
    submit: Submit,
    reader: Reader,
    messages: Messages,
    start_worker: StartWorker,
) -> None:
    modules = ("-I", "tests.fixtures.poison,tests.fixtures.probe_tasks")
    worker = start_worker("prefork", 2, *modules, DELIVERY_MAX_DEATHS=str(DEATHS))
    group = {f"{number}.txt": HARMLESS for number in range(8)}
    group["5.txt"] = POISON.encode()
    grouped = [one.document_id for one in submit(group, announce=True)]
    lone = submit({"lone.txt": LONE}, announce=True)[0].document_id
    kept = messages.write("probe.deadly", "kept")
    plain = messages.delay("probe.deadly", "plain")

    documents = {one.id: one for one in reader.await_end(*grouped, lone, seconds=100)}

    guilty = {one.id for one in documents.values() if one.error is not None}
    assert guilty == {grouped[5], lone}
    for one in guilty:
        document: Document = documents[one]
        assert document.indexing_status == DocumentStatus.ERROR
        assert document.error == f"the worker died {DEATHS} times on this document"
        assert document.completed_segments == 0
    for message_id, name in ((kept, "kept"), (plain, "plain")):
        letter = messages.await_letter(message_id)
        assert letter.reason == f"the worker died {DEATHS} times on this message"
        assert letter.exception == "AttemptsExhausted"
        # A plain message leaves no trace of its first death.
        assert DEATHS <= messages.runs(name) <= DEATHS + 1
    messages.await_quiet_broker()
    eventually(lambda: messages.rows() == [])
    assert len(messages.letters()) == 4
    assert not any(messages.redis.scan_iter("document_*_indexing"))
    # It goes on, with as many children as before.
    assert worker.process.poll() is None
    eventually(lambda: len(psutil.Process(worker.pid).children()) >= 2)
    more = submit({"more.txt": HARMLESS}, announce=True)[0].document_id
    assert reader.await_end(more)[0].indexing_status == DocumentStatus.COMPLETED
