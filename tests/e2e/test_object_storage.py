"""Files in an object storage: read by each pool, and its outage is nobody's fault."""

import io
from uuid import UUID

import pytest
import s3fs

from shared.errors import ServiceUnavailable
from shared.extensions.storage import Storage, open_storage
from shared.models import Document, DocumentStatus
from shared.submitting.files import store_file
from tests.fixtures.application import Reader, Submit
from tests.fixtures.object_storage import ObjectStorage
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker
from worker.stores.files import StoredFiles

TENANT = UUID(int=1)
FILES = 12


@pytest.fixture
def environment(
    environment: dict[str, str], object_storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """The test's servers, with the files in the object storage."""
    monkeypatch.setenv("STORAGE_URL", object_storage.url)
    return {**environment, "STORAGE_URL": object_storage.url}


@pytest.fixture
def storage(object_storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch) -> Storage:
    # One that is gone is asked once: the pauses between are not what is tried here.
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    return open_storage(object_storage.url)


@pytest.mark.parametrize("pool", ["prefork", "gevent"])
def test_every_process_and_greenlet_reads_it(
    pool: str, start_worker: StartWorker, submit: Submit, reader: Reader
) -> None:
    worker = start_worker(pool, 4)
    submitted = submit(
        {f"{n}.txt": f"Lamp {n} of the lighthouse turns.".encode() for n in range(FILES)},
        announce=True,
    )

    reader.await_completed(*(one.document_id for one in submitted))

    assert worker.terminate() == 0, worker.output()


def test_a_document_waits_for_a_storage_that_is_away(
    object_storage: ObjectStorage, start_worker: StartWorker, submit: Submit, reader: Reader
) -> None:
    (submitted,) = submit({"book.txt": b"The lighthouse turns its lamp."}, announce=False)
    object_storage.kill()
    start_worker("prefork", 1)

    def waits() -> bool:
        found: Document = reader.document(submitted.document_id)
        return bool(found.error and "the storage s3://bucket" in found.error)

    eventually(waits, 120)
    assert reader.document(submitted.document_id).indexing_status == DocumentStatus.WAITING


def test_what_is_away_is_named(storage: Storage, object_storage: ObjectStorage) -> None:
    object_storage.kill()
    with pytest.raises(ServiceUnavailable, match="the storage s3://bucket/rag-worker does not"):
        store_file(storage, TENANT, "book.txt", io.BytesIO(b"x"))


def test_it_can_go_away_while_a_file_is_read(
    storage: Storage, object_storage: ObjectStorage
) -> None:
    files = StoredFiles(storage)
    files.write("a/b", b"The lighthouse turns its lamp.")
    with files.open("a/b") as file:
        assert file.read() == b"The lighthouse turns its lamp."

    with files.open("a/b") as file:
        object_storage.kill()
        with pytest.raises(ServiceUnavailable, match="the storage s3://bucket/rag-worker does not"):
            file.read()
