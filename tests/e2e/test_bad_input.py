"""Files that nobody should have uploaded: each ends with its own reason, and the worker lives."""

import io
import zipfile
from importlib.resources import files
from pathlib import Path
from uuid import UUID

import psutil

from shared.models import Document, DocumentStatus
from tests.fixtures.application import Reader, Submit
from tests.fixtures.worker_process import StartWorker
from worker.services.dataset.retrieval import search
from worker.wiring import retrieval_needs

SAMPLES = Path(str(files("worker"))) / "samples" / "documents"
_BOMB_BYTES = 600 * 1024**2

# The security handler alone makes it unreadable: its keys fit no password.
_ENCRYPTED_PDF = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
    b"2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]>>endobj\n"
    b"4 0 obj<</Filter/Standard/V 2/R 3/Length 128/P -3904/O<"
    + b"41" * 32
    + b">/U<"
    + b"42" * 32
    + b">>>endobj\n"
    b"trailer<</Root 1 0 R/Encrypt 4 0 R/ID[<00><00>]/Size 5>>\n%%EOF\n"
)
_PNG = (
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89"
    b"\0\0\0\rIDATx\x9cc\xf8\xff\xff?\0\x05\xfe\x02\xfe\xa75\x81\x84\0\0\0\0IEND\xaeB`\x82"
)


def bomb(member: str) -> bytes:
    """A ZIP file that unpacks to a thousand times its size."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        if member.startswith("word/"):
            with zipfile.ZipFile(SAMPLES / "energy-system.docx") as sample:
                for name in sample.namelist():
                    if name != member:
                        archive.writestr(name, sample.read(name))
        with archive.open(member, "w") as content:
            for _ in range(_BOMB_BYTES // 2**20):
                content.write(b" " * 2**20)
    return packed.getvalue()


LONG_NAME = "long " * 300 + ".txt"

#: A file's name, its content, and words of the reason it must end with.
BAD: dict[str, tuple[bytes, str]] = {
    "empty.txt": (b"", "upload a file with content"),
    "empty.csv": (b"", "upload a file with content"),
    "secret.pdf": (_ENCRYPTED_PDF, "password"),
    "truncated.docx": ((SAMPLES / "energy-system.docx").read_bytes()[:20_000], "upload it again"),
    "bomb.docx": (bomb("word/document.xml"), "INDEXING_MAX_UNPACKED"),
    "bomb.zip": (bomb("spaces.txt"), "unpack it"),
    "picture.pdf": (_PNG, "upload its text"),
}
#: Strange, but there is text to be found in them.
STRANGE = {
    "nul and surrogates.txt": b"before\0after \xed\xa0\x80\xed\xb3\xbf the pelican\0 flies south",
    "../../../etc/passwd.txt": b"a path is only a name: the heron stays in its reeds",
    "\U0001f600 \U0001f409.md": "# \U0001f409\n\nthe dragon keeps its gold".encode(),
    LONG_NAME: b"a name of many words belongs to the stork",
    "really html.txt": b"<html><body><p>the swan has a wrong ending</p></body></html>",
    "really text.docx": b"the goose has a wrong ending, too",
}
GOOD = ("safety.md", "handbook.pdf", "energy-system.docx")


def test_each_bad_file_ends_with_its_reason_and_the_worker_lives(
    dataset_id: UUID, submit: Submit, reader: Reader, start_worker: StartWorker
) -> None:
    worker = start_worker()
    children = {one.pid for one in psutil.Process(worker.pid).children()}

    contents = {name: content for name, (content, _) in BAD.items()} | STRANGE
    contents |= {name: (SAMPLES / name).read_bytes() for name in GOOD}
    submissions = submit(contents, announce=True)
    ended = reader.await_end(*(one.document_id for one in submissions), seconds=90)
    documents = dict(zip(contents, ended, strict=True))

    told_of = {name: told(documents[name], words) for name, (_, words) in BAD.items()}
    assert told_of == dict.fromkeys(BAD, "as it should")
    assert {documents[name].indexing_status for name in GOOD} == {DocumentStatus.COMPLETED}
    for name in STRANGE:
        assert is_settled(documents[name]), (name, documents[name].error)
    assert worker.process.poll() is None
    assert {one.pid for one in psutil.Process(worker.pid).children()} == children

    found = search(dataset_id, "Where does the pelican fly?", retrieval_needs())
    assert found[0].document_name == "nul and surrogates.txt"
    found = search(dataset_id, "Where does the heron stay?", retrieval_needs())
    assert found[0].document_name.endswith("passwd.txt")
    assert "dragon" in search(dataset_id, "dragon gold", retrieval_needs())[0].content


def told(document: Document, words: str) -> str:
    """Whether the document ended as error, with a reason that names it and what to do."""
    reason = document.error or ""
    as_it_should = (
        document.indexing_status == DocumentStatus.ERROR
        and document.name in reason
        and words in reason
        and "\n" not in reason
        and document.total_segments == 0
    )
    return "as it should" if as_it_should else f"{document.indexing_status}: {reason}"


def is_settled(document: Document) -> bool:
    """Whether there is something to find in the document, or a reason why not."""
    if document.indexing_status == DocumentStatus.COMPLETED:
        return bool(document.total_segments)
    return document.indexing_status == DocumentStatus.ERROR and bool(document.error)
