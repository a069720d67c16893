"""A disk without room: nothing is lost, and it is said which disk it is and what to do."""

import io
import tempfile
from pathlib import Path
from uuid import UUID

import pytest
from flask import Flask
from fsspec.implementations.dirfs import DirFileSystem
from sqlalchemy.orm import Session

from shared.errors import StorageFull
from shared.extensions.storage import open_storage
from shared.models import Document, DocumentStatus
from shared.submitting.files import store_file
from shared.submitting.urls import submit_urls
from tests.fixtures.full_disk import FULL, FullDisk, on_full_disk
from tests.fixtures.web_server import WebServer
from worker.services.dataset.syncing import Synced, sync_document
from worker.stores.files import StoredFiles
from worker.wiring import sync_needs

TENANT = UUID(int=1)
CONTENT = b"The lighthouse turns its lamp. " * 50


@pytest.fixture
def storage(tmp_path: Path) -> DirFileSystem:
    return open_storage(f"file://{tmp_path}/files")


@pytest.fixture
def disk(storage: DirFileSystem) -> FullDisk:
    return on_full_disk(storage)


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def words(folder: Path) -> str:
    return (
        f"the storage file://{folder} is full (No space left on device): "
        "make room there, or move it and set STORAGE_URL"
    )


@pytest.mark.parametrize("size_bytes", [10, 3 << 20], ids=["buffered", "streamed"])
def test_a_producer_is_told_which_storage_and_hands_the_file_in_again(
    storage: DirFileSystem, disk: FullDisk, tmp_path: Path, size_bytes: int
) -> None:
    content = io.BytesIO(b"x" * size_bytes)
    with pytest.raises(StorageFull) as full:
        store_file(storage, TENANT, "book.txt", content)
    assert str(full.value) == words(tmp_path / "files")
    assert files_in(tmp_path) == []

    disk.is_full = False
    content.seek(0)
    assert storage.size(store_file(storage, TENANT, "book.txt", content).key) == size_bytes


def test_what_cannot_be_read_is_not_the_storages_fault(storage: DirFileSystem) -> None:
    class Torn(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise ConnectionResetError("the upload broke off")

    with pytest.raises(ConnectionResetError):
        store_file(storage, TENANT, "book.txt", Torn())


def test_a_worker_leaves_no_half_file(
    storage: DirFileSystem, disk: FullDisk, tmp_path: Path
) -> None:
    files = StoredFiles(storage)
    with pytest.raises(StorageFull, match="make room there"):
        files.write("traces/one", CONTENT)
    assert files_in(tmp_path) == []

    disk.is_full = False
    files.write("traces/one", CONTENT)
    with files.open("traces/one") as file:
        assert file.read() == CONTENT


@pytest.fixture
def environment(
    environment: dict[str, str], web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    monkeypatch.setenv("FETCH_ALLOWED_NETWORKS", "127.0.0.1/32")
    monkeypatch.setenv("FETCH_ALLOWED_PORTS", str(web.port))
    return environment


@pytest.fixture
def document_id(app: Flask, session: Session, dataset_id: UUID, web: WebServer) -> UUID:
    url = web.page("/guide", CONTENT)
    (submitted,) = submit_urls(session, app.extensions["redis"], dataset_id, [url])
    session.commit()
    return submitted.document_id


def test_a_fetched_document_waits_until_there_is_room(
    app: Flask, session: Session, dataset_id: UUID, document_id: UUID, tmp_path: Path
) -> None:
    disk = on_full_disk(app.extensions["storage"])
    for _ in range(12):
        with pytest.raises(StorageFull):
            sync_document(document_id, dataset_id, sync_needs())

    row = session.get_one(Document, document_id, populate_existing=True)
    assert row.error == f"waits for a service: {words(tmp_path / 'storage')}"
    assert (row.indexing_status, row.attempts) == (DocumentStatus.WAITING, 0)
    session.rollback()

    disk.is_full = False
    assert sync_document(document_id, dataset_id, sync_needs()) is Synced.CHANGED
    assert session.get_one(Document, document_id, populate_existing=True).error is None


def test_a_full_folder_for_temporary_files_is_named_too(
    session: Session, dataset_id: UUID, document_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: FULL.open("r+b"))

    with pytest.raises(StorageFull, match=r"temporary files, /.*, is full .* TMPDIR"):
        sync_document(document_id, dataset_id, sync_needs())

    row = session.get_one(Document, document_id, populate_existing=True)
    assert row.indexing_status == DocumentStatus.WAITING
