"""ZIP-based formats are measured before anything parses them, by what they really unpack to."""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial

from shared.errors import EncryptedFile, LimitExceeded, UnreadableFile
from worker.services.dataset.limits import Limits, require
from worker.services.dataset.xml_limits import require_small_xml

#: Office files, OpenDocument and e-books: ZIP archives with known members.
ENDINGS = frozenset(
    {".docx", ".docm", ".xlsx", ".xlsm", ".pptx", ".odt", ".ods", ".epub"},
)
_CHAPTERS = (".xhtml", ".html", ".htm", ".xml", ".opf", ".ncx")
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_LOCAL_MAGIC = b"PK\x03\x04"
_OLE_MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED = 1
#: Below this the ratio says nothing: a small table of equal rows packs very well.
_HARMLESS_BYTES = 4 * 1024**2
_READ_BYTES = 64 * 1024
_UNPACK_BYTES = 1 << 20


def require_harmless(content: bytes, name: str, limits: Limits) -> None:
    """Refuse an archive that is encrypted, damaged or unpacks to more than ``limits`` allow.

    Sizes are counted by unpacking, never taken from its directory. Archives
    inside it are counted as they are: no parser here looks into those.

    Raises:
        EncryptedFile: it needs a password.
        LimitExceeded: it is too large unpacked.
        UnreadableFile: it is no archive.
    """
    if content.startswith(_OLE_MAGIC):  # an encrypted Office file is an archive in an envelope
        raise EncryptedFile(f"{name} is protected by a password: upload a copy without one")
    try:
        members = zipfile.ZipFile(io.BytesIO(content)).infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        raise _damaged(name) from None
    require(len(members), limits.archive_members, name, "members", "INDEXING_MAX_ARCHIVE_MEMBERS")
    if any(member.flag_bits & _ENCRYPTED for member in members):
        raise EncryptedFile(f"{name} is protected by a password: upload a copy without one")
    unpacked_bytes = 0
    for member in members:
        for size in _unpacked(content, member, name):
            unpacked_bytes += size
            _require_size(unpacked_bytes, len(content), name, limits)


def require_shallow_chapters(content: bytes, name: str) -> None:
    """Refuse an e-book with a chapter that is nested too deep; call ``require_harmless`` first.

    Raises:
        LimitExceeded: a chapter is nested too deep or has too many elements.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for member in archive.infolist():
            if not member.filename.lower().endswith(_CHAPTERS):
                continue
            try:
                with archive.open(member) as chapter:
                    require_small_xml(iter(partial(chapter.read, _READ_BYTES), b""), name)
            except zipfile.BadZipFile:
                raise _damaged(name) from None
            except LimitExceeded:
                raise
            except UnreadableFile:
                continue  # HTML entities, say: the parser decides what it can read


def _require_size(unpacked_bytes: int, packed_bytes: int, name: str, limits: Limits) -> None:
    require(
        unpacked_bytes, limits.unpacked_bytes, name, "bytes unpacked", "INDEXING_MAX_UNPACKED_BYTES"
    )
    ratio = unpacked_bytes // packed_bytes if unpacked_bytes > _HARMLESS_BYTES else 0
    require(
        ratio, limits.unpacked_ratio, name, "times its size unpacked", "INDEXING_MAX_UNPACKED_RATIO"
    )


def _unpacked(content: bytes, member: zipfile.ZipInfo, name: str) -> Iterator[int]:
    """Sizes of the pieces that ``member`` unpacks to; ``zipfile`` would stop at the stated size."""
    try:
        magic, name_bytes, extra_bytes = _LOCAL_HEADER.unpack_from(content, member.header_offset)
    except struct.error:
        raise _damaged(name) from None
    start = member.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes
    end = start + member.compress_size
    if magic != _LOCAL_MAGIC or end > len(content):
        raise _damaged(name)
    if member.compress_type == zipfile.ZIP_STORED:
        yield member.compress_size
    elif member.compress_type == zipfile.ZIP_DEFLATED:
        yield from _inflated(memoryview(content)[start:end], name)
    else:
        raise UnreadableFile(f"{name} is packed in an unusual way: save it again in its program")


def _inflated(packed: memoryview, name: str) -> Iterator[int]:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for start in range(0, len(packed), _READ_BYTES):
            rest: bytes | memoryview = packed[start : start + _READ_BYTES]
            while rest and not inflater.eof:
                yield len(inflater.decompress(rest, _UNPACK_BYTES))
                rest = inflater.unconsumed_tail
    except zlib.error:
        raise _damaged(name) from None


def _damaged(name: str) -> UnreadableFile:
    return UnreadableFile(
        f"{name} is damaged, cut short or not what its ending says: upload it again"
    )
