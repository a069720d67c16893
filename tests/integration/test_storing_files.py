"""Files in the storage: streamed, named by content, nothing left behind."""

import hashlib
import io
import threading
import tracemalloc
from pathlib import Path
from uuid import UUID

import pytest
from fsspec.implementations.dirfs import DirFileSystem
from hypothesis import given
from hypothesis import strategies as st

from shared.extensions.storage import open_storage
from shared.submitting.dataset import source_key
from shared.submitting.files import mime_type_of, storable, store_file

TENANT = UUID(int=1)
MEGABYTE = 1 << 20


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "storage"


@pytest.fixture
def storage(root: Path) -> DirFileSystem:
    return open_storage(f"file://{root}")


def files_in(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


class Stream(io.RawIOBase):
    """Content that exists a piece at a time; may break, or wait for another."""

    def __init__(
        self, megabytes: int, *, breaks: bool = False, meet: threading.Barrier | None = None
    ):
        self._left, self._breaks, self._meet = megabytes, breaks, meet
        self.largest = 0

    def read(self, size: int = -1) -> bytes:
        self.largest = max(self.largest, size)
        if self._left == 0:
            if self._breaks:
                raise ConnectionResetError("the upload broke off")
            if self._meet:
                self._meet.wait(300)
            return b""
        self._left -= 1
        return b"x" * min(size, MEGABYTE)


def test_the_key_is_made_of_tenant_and_content(storage: DirFileSystem, root: Path) -> None:
    digest = hashlib.sha256(b"content").hexdigest()

    stored = store_file(storage, TENANT, "notes.pdf", io.BytesIO(b"content"))

    assert stored.key == f"upload_files/{TENANT}/{digest[:2]}/{digest}"
    assert (stored.sha256, stored.size_bytes, stored.name) == (digest, 7, "notes.pdf")
    assert stored.mime_type == "application/pdf"
    assert files_in(root) == [stored.key]
    assert (root / stored.key).read_bytes() == b"content"


def test_a_large_file_streams(storage: DirFileSystem) -> None:
    content = Stream(64)
    tracemalloc.start()
    try:
        stored = store_file(storage, TENANT, "large.bin", content)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert stored.size_bytes == 64 * MEGABYTE
    assert content.largest <= MEGABYTE
    assert peak < 8 * MEGABYTE


def test_the_same_content_is_stored_once_a_tenant(storage: DirFileSystem, root: Path) -> None:
    one = store_file(storage, TENANT, "one.txt", io.BytesIO(b"content"))
    two = store_file(storage, TENANT, "two.txt", io.BytesIO(b"content"))
    other = store_file(storage, UUID(int=2), "one.txt", io.BytesIO(b"content"))

    assert one.key == two.key != other.key
    assert files_in(root) == sorted([one.key, other.key])


def test_an_upload_that_breaks_off_leaves_nothing(storage: DirFileSystem, root: Path) -> None:
    with pytest.raises(ConnectionResetError):
        store_file(storage, TENANT, "broken.bin", Stream(2, breaks=True))

    assert files_in(root) == []


def test_uploads_of_the_same_content_at_once_agree(storage: DirFileSystem, root: Path) -> None:
    meet = threading.Barrier(4)
    keys: list[str] = []

    def upload() -> None:
        keys.append(store_file(storage, TENANT, "a", Stream(1, meet=meet)).key)

    threads = [threading.Thread(target=upload) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)

    assert len(keys) == 4
    assert files_in(root) == [keys[0]]
    assert (root / keys[0]).stat().st_size == MEGABYTE


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/../../b", "..", "", "\0"])
def test_a_name_is_never_a_path(name: str, storage: DirFileSystem, root: Path) -> None:
    stored = store_file(storage, TENANT, name, io.BytesIO(b"content"))

    assert files_in(root) == [stored.key]
    assert ".." not in stored.key


def test_a_key_cannot_leave_the_storage(storage: DirFileSystem) -> None:
    with pytest.raises(ValueError, match="escapes"):
        storage.open("../outside", "wb")


def test_a_long_name_keeps_its_ending(storage: DirFileSystem) -> None:
    stored = store_file(storage, TENANT, "x" * 5000 + ".pdf", io.BytesIO(b"content"))

    assert len(stored.name) == 512
    assert stored.name.endswith("x.pdf")
    assert stored.mime_type == mime_type_of("a.pdf")


@given(st.text(st.characters(), max_size=60))
def test_any_text_becomes_storable(text: str) -> None:
    stored = storable(text)

    assert "\0" not in stored
    assert stored.encode("utf-8").decode() == stored


@given(*[st.text(st.characters(), max_size=8) | st.text("a\0\udc80\udc81", max_size=4)] * 2)
def test_different_keys_stay_different(one: str, two: str) -> None:
    assert (source_key(one) == source_key(two)) == (one == two)
    assert storable(source_key(one)) == source_key(one)


def test_memory_is_a_storage_too() -> None:
    stored = store_file(open_storage("memory://uploads"), TENANT, "a", io.BytesIO(b"content"))

    assert open_storage("memory://uploads").cat_file(stored.key) == b"content"
