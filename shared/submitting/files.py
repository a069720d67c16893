"""A producer's file goes into the storage once, named by its content, and has a row."""

import hashlib
import mimetypes
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO
from uuid import UUID, uuid4

from fsspec import AbstractFileSystem
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from shared.errors import InvalidRequest
from shared.models import UploadFile
from shared.submitting.ids import AnyId, checked_id
from shared.submitting.storage_failures import storage_failures

_PIECE_BYTES = 1 << 20
_NAME_CHARACTERS = 512
#: The tenant in a key that ``store_file`` made.
_OWNER = re.compile("upload_files/([0-9a-f-]{36})/")
_ADD = text("""
    INSERT INTO upload_files (id, tenant_id, storage_key, name, size_bytes, mime_type, sha256)
    SELECT gen_random_uuid(), :tenant_id, u.storage_key, u.name, u.size_bytes, u.mime_type, u.sha256
    FROM unnest(
        CAST(:storage_keys AS text[]), CAST(:names AS text[]), CAST(:sizes AS bigint[]),
        CAST(:mime_types AS text[]), CAST(:hashes AS text[])
    ) AS u(storage_key, name, size_bytes, mime_type, sha256)
    ON CONFLICT DO NOTHING
""")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file in the storage.

    Attributes:
        name: as the user knows it, made storable; never used as a path.
        key: where it lies, made of the tenant and the content's hash.
    """

    name: str
    key: str
    size_bytes: int
    sha256: str
    mime_type: str


def store_file(
    filesystem: AbstractFileSystem, tenant_id: AnyId, name: str, content: BinaryIO
) -> StoredFile:
    """Stream a file into the storage; content that is there already is not written twice.

    Args:
        filesystem: the storage, ``app.extensions["storage"]``.
        tenant_id: whose file it is.
        name: the user's name for it; its ending decides how it is read.
        content: open for reading.

    Raises:
        InvalidRequest: the tenant's id is none.
        StorageFull: (transient) the storage has no room for it.
        ServiceUnavailable: (transient) the storage does not answer.
        OSError: ``content`` cannot be read.
    """
    folder = f"upload_files/{checked_id('tenant_id', tenant_id)}"
    draft = f"{folder}/drafts/{uuid4()}"
    is_moved = False
    try:
        sha256, size_bytes = _write_draft(filesystem, draft, content)
        key = f"{folder}/{sha256[:2]}/{sha256}"
        # Moved when whole: what an interrupted upload leaves is never taken for a file.
        with storage_failures(filesystem):
            if not filesystem.exists(key):
                filesystem.makedirs(f"{folder}/{sha256[:2]}", exist_ok=True)
                filesystem.mv(draft, key)
                is_moved = True
    finally:
        if not is_moved:
            with storage_failures(filesystem):
                if filesystem.exists(draft):
                    filesystem.rm_file(draft)
    name = storable(name)[-_NAME_CHARACTERS:]
    return StoredFile(name, key, size_bytes, sha256, mime_type_of(name))


def _write_draft(filesystem: AbstractFileSystem, draft: str, content: BinaryIO) -> tuple[str, int]:
    """The SHA-256 and the number of bytes written."""
    digest, size_bytes = hashlib.sha256(), 0
    with storage_failures(filesystem):
        filesystem.makedirs(draft.rpartition("/")[0], exist_ok=True)
        target = filesystem.open(draft, "wb")
    try:
        while piece := content.read(_PIECE_BYTES):
            digest.update(piece)
            size_bytes += len(piece)
            with storage_failures(filesystem):
                target.write(piece)
    finally:
        # Also what was buffered is written here, and can find no room.
        with storage_failures(filesystem):
            target.close()
    return digest.hexdigest(), size_bytes


def upload_files(
    session: Session, tenant_id: UUID, files: Sequence[StoredFile]
) -> dict[tuple[str, str], UUID]:
    """Write the rows that are missing; ids by content hash and name.

    Raises:
        InvalidRequest: a file lies in another tenant's folder, or is none.
    """
    if not files:
        return {}
    for file in files:
        _require_own(tenant_id, file)
    by_content = {(file.sha256, file.name): file for file in files}
    # In order: two submissions of the same files to two datasets cannot deadlock.
    ordered = [by_content[key] for key in sorted(by_content)]
    values = {
        "tenant_id": tenant_id,
        "storage_keys": [file.key for file in ordered],
        "names": [file.name for file in ordered],
        "sizes": [file.size_bytes for file in ordered],
        "mime_types": [file.mime_type for file in ordered],
        "hashes": [file.sha256 for file in ordered],
    }
    found: dict[tuple[str, str], UUID] = {}
    # A row that was there for the insert may be cleaned up before it is locked: once more then.
    while not by_content.keys() <= found.keys():
        session.execute(_ADD, values)
        found = _locked_ids(session, tenant_id, {file.sha256 for file in files})
    return found


def require_stored(file: StoredFile) -> None:
    """Check that a file is one that ``store_file`` returned.

    Raises:
        InvalidRequest: it is something else.
    """
    if not isinstance(file, StoredFile):
        raise InvalidRequest(
            f"a file is what store_file returned, not {type(file).__name__}: store it first"
        )


def _require_own(tenant_id: UUID, file: StoredFile) -> None:
    require_stored(file)
    owner = _OWNER.match(file.key)
    if owner is not None and owner[1] != str(tenant_id):
        raise InvalidRequest(
            f"{file.name} was stored for another tenant: store it for tenant {tenant_id}"
        )


def _locked_ids(session: Session, tenant_id: UUID, hashes: set[str]) -> dict[tuple[str, str], UUID]:
    # By hash alone: ten thousand pairs in one IN pass PostgreSQL's stack depth.
    # The lock is a foreign key's: a clean-up that finds them unused waits, and looks again.
    locked = session.execute(
        select(UploadFile.id, UploadFile.sha256, UploadFile.name)
        .where(UploadFile.tenant_id == tenant_id, UploadFile.sha256.in_(hashes))
        .order_by(UploadFile.id)
        .with_for_update(read=True, key_share=True)
    )
    return {(row.sha256, row.name): row.id for row in locked}


def storable(text: str) -> str:
    """Text that PostgreSQL takes: no NUL, no lone surrogate (file names on Linux are bytes)."""
    return text.encode("utf-8", "replace").decode().replace("\0", "")


def mime_type_of(name: str) -> str:
    """The MIME type by the name's ending."""
    return mimetypes.guess_type(name)[0] or "application/octet-stream"
