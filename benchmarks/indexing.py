"""Indexing against its bare parts, on the same files, in turns.

``python -m benchmarks.indexing [--pages FOLDER]`` indexes HTML pages twice a round: by the
bare parts in one process (extract, split, embed, binary COPY into one table), and by a
worker with two prefork processes, from the first submission to the last completed document.
Without a folder a manual is made up, the same each time.
"""

import argparse
import io
import os
import random
import signal
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import kreuzberg
import psycopg2
from flask import Flask
from semantic_text_splitter import MarkdownSplitter
from sqlalchemy import make_url, select
from sqlalchemy.orm import Session

from shared.app_factory import create_app
from shared.models import Dataset, Document, db
from worker.cli.database import upgrade_database
from worker.cli.following import follow
from worker.cli.found_files import FoundFile
from worker.cli.stack.children import kill_group, spawn
from worker.cli.stack.postgres import EmbeddedPostgres
from worker.cli.stack.valkey import EmbeddedValkey
from worker.cli.submitting import ensure_place, submit_files
from worker.providers.wordllama import WordLlamaEmbedder

CHUNK_CHARACTERS = 1100
PAGES = 300
PROCESSES = 2
# fmt: off
_WORDS = (
    "a", "valve", "line", "pump", "filter", "pressure", "sensor", "panel", "service", "manual",
    "engine", "cover", "bolt", "torque", "oil", "coolant", "replace", "remove", "inspect",
    "tighten", "measure", "clean", "check", "the", "of", "to", "and", "with", "before",
    "after", "when", "until", "every", "second", "third", "left", "right", "upper", "lower",
    "value", "table", "figure", "section", "warning", "note",
)
# fmt: on


def made_up_manual(folder: Path) -> None:
    """Write 300 pages of about 25 kB with headings, paragraphs, lists and tables."""
    choose = random.Random(7)
    for number in range(PAGES):
        parts = [f"<html><head><title>Page {number}</title></head><body>"]
        for section in range(12):
            parts.append(f"<h2>Section {number}.{section}</h2>")
            for _ in range(4):
                words = " ".join(choose.choices(_WORDS, k=60))
                parts.append(f"<p>{words}, <a href='#{section}'>{words[:20]}</a>.</p>")
            items = "".join(f"<li>{' '.join(choose.choices(_WORDS, k=9))}</li>" for _ in range(5))
            parts.append(f"<ul>{items}</ul>")
        parts.append("</body></html>")
        (folder / f"page-{number:03}.html").write_text("\n".join(parts))


def bare_parts(pages: list[Path], uri: str) -> tuple[float, int]:
    """Index with nothing but the parts; returns seconds and segments."""
    embedder = WordLlamaEmbedder("l2_supercat_256")
    config = kreuzberg.ExtractionConfig(output_format="markdown", use_cache=False)
    splitter = MarkdownSplitter(CHUNK_CHARACTERS)
    url = make_url(uri)
    connection = psycopg2.connect(
        host=url.host, port=url.port, user=url.username, password=url.password, dbname=url.database
    )
    segments = 0
    with connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS bare")
        cursor.execute("CREATE TABLE bare (id uuid PRIMARY KEY, content text, v vector)")
        connection.commit()
        started = time.perf_counter()
        for page in pages:
            text = kreuzberg.extract_bytes_sync(
                page.read_bytes(), "text/html", config=config
            ).content
            chunks = splitter.chunks(text)
            vectors = embedder.embed(chunks).vectors
            copied = io.BytesIO(_binary(chunks, vectors))
            cursor.copy_expert("COPY bare FROM STDIN (FORMAT binary)", copied)
            connection.commit()
            segments += len(chunks)
        seconds = time.perf_counter() - started
    connection.close()
    return seconds, segments


def _binary(chunks: list[str], vectors: object) -> bytes:
    out = [b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0)]
    big_endian = vectors.astype(">f4")  # type: ignore[attr-defined]
    head = struct.pack("!hh", big_endian.shape[1], 0)
    for chunk, vector in zip(chunks, big_endian, strict=True):
        content = chunk.encode()
        value = head + vector.tobytes()
        out.append(struct.pack("!hi", 3, 16) + uuid4().bytes)
        out.append(struct.pack("!i", len(content)) + content)
        out.append(struct.pack("!i", len(value)) + value)
    out.append(struct.pack("!h", -1))
    return b"".join(out)


def ours(pages: list[Path]) -> tuple[float, int]:
    """Submit the pages to a new dataset and wait; returns seconds and segments."""
    tenant_id, dataset_id = ensure_place("bench", f"bench-{uuid4()}")
    started = time.perf_counter()
    submissions, _ = submit_files(
        tenant_id, dataset_id, [FoundFile(page, str(page)) for page in pages]
    )
    for _ in follow([one.document_id for one in submissions], 600, lambda: None):
        pass
    seconds = time.perf_counter() - started
    with Session(db.engine) as session:
        rows = session.execute(
            select(Document.indexing_status, Document.total_segments).where(
                Document.dataset_id == dataset_id
            )
        ).all()
        session.delete(session.get_one(Dataset, dataset_id))
        session.commit()
    if any(row.indexing_status != "completed" for row in rows):
        raise RuntimeError("not every page was indexed")
    return seconds, sum(row.total_segments for row in rows)


@contextmanager
def stack(folder: Path) -> Iterator[Flask]:
    """Servers, a migrated database and a worker of two processes."""
    with EmbeddedPostgres(folder / "postgres") as postgres, EmbeddedValkey(folder / "v") as valkey:
        os.environ.update(
            SQLALCHEMY_DATABASE_URI=postgres.uri,
            REDIS_URL=valkey.url,
            CELERY_BROKER_URL=valkey.url,
            STORAGE_URL=f"file://{folder}/storage",
            LOG_LEVEL="WARNING",
        )
        app = create_app()
        with app.app_context():
            upgrade_database()
            worker = spawn(
                [
                    *(sys.executable, "-m", "celery", "-A", "worker.celery_app", "worker"),
                    *("-Q", "dataset", "-c", str(PROCESSES), "-l", "WARNING"),
                ],
                log=folder / "worker.log",
                death_signal=signal.SIGKILL,
            )
            try:
                while not app.extensions["celery"].control.ping(timeout=1):
                    time.sleep(0.1)
                yield app
            finally:
                kill_group(worker)
                db.engine.dispose()


def main() -> int:
    """Measure in turns, print the table, return 0 when the target is met."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pages", type=Path, help="a folder with HTML pages")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.pages is None:
            (folder / "manual").mkdir()
            made_up_manual(folder / "manual")
        source = options.pages or folder / "manual"
        pages = sorted(source.rglob("*.html"))[:PAGES]
        megabytes = sum(page.stat().st_size for page in pages) / 1e6
        print(f"{len(pages)} pages, {megabytes:.1f} MB")
        with stack(folder):
            uri = os.environ["SQLALCHEMY_DATABASE_URI"]
            ours(pages[:20])  # every process loads its model before the clock runs
            times: dict[str, list[float]] = {"bare": [], "ours": []}
            for _ in range(options.rounds):
                for way, run in (
                    ("ours", lambda: ours(pages)),
                    ("bare", lambda: bare_parts(pages, uri)),
                ):
                    seconds, segments = run()
                    times[way].append(seconds)
                    print(f"  {way}: {seconds:.2f} s, {segments} segments", flush=True)
    medians = {way: statistics.median(found) for way, found in times.items()}
    ratio = medians["ours"] / medians["bare"]
    print(f"\n{PROCESSES} processes / bare parts in one: {ratio:.2f} (at most 1.00 is the target)")
    return 0 if ratio <= 1 else 1


if __name__ == "__main__":
    sys.exit(main())
