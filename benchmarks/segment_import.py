"""Import of a large table of segments: rows a second, and the memory it takes.

``python -m benchmarks.segment_import [--rows N] [--technique economy]`` imports a CSV of N rows
into a document, in this process, and prints the resident memory at every tenth of it.
"""

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path
from uuid import UUID

import psutil
from flask import current_app
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from benchmarks.application import application
from shared.models import SegmentImport, db
from shared.submitting.dataset import ensure_dataset, ensure_tenant, submit_documents
from shared.submitting.files import store_file
from shared.submitting.segments import import_segments
from worker import wiring
from worker.services.dataset.indexing import index_document
from worker.services.dataset.segment_imports import run_import

TENTHS = 10


def submit(folder: Path, rows: int, technique: str) -> UUID:
    """A document with one segment, and the import of a table into it."""
    app = current_app
    storage = app.extensions["storage"]
    (folder / "base.txt").write_text("The first segment.")
    with (folder / "rows.csv").open("w") as table:
        table.write("content\n")
        for one in range(rows):
            table.write(
                f'"Buoy {one} lies {one % 97} cables off the mole, shows a green light every '
                f'{one % 13 + 2} seconds, and is inspected in week {one % 52 + 1}."\n'
            )
    with Session(db.engine) as session:
        tenant_id = ensure_tenant(session, "bench")
        dataset_id = ensure_dataset(session, tenant_id, "buoys", technique=technique)
        with (folder / "base.txt").open("rb") as content:
            file = store_file(storage, tenant_id, "base.txt", content)
        (made,) = submit_documents(session, app.extensions["redis"], dataset_id, [("base", file)])
        session.commit()
        index_document(made.document_id, dataset_id, wiring.indexing_needs())
        with (folder / "rows.csv").open("rb") as content:
            file = store_file(storage, tenant_id, "rows.csv", content)
        import_id = import_segments(session, made.document_id, file)
        session.commit()
    return import_id


def watch(engine: Engine, rows: int, end: threading.Event) -> None:
    """Print the memory whenever another tenth is in."""
    process, seen = psutil.Process(), 0
    while not end.wait(0.2):
        with engine.connect() as connection:
            done = connection.scalar(select(SegmentImport.imported_rows)) or 0
        if done * TENTHS // rows > seen:
            seen = done * TENTHS // rows
            print(f"{done:>9,} rows  {process.memory_info().rss / 2**20:6.0f} MB", flush=True)


def measure(import_id: UUID, rows: int) -> int:
    """Run the import, print what it took; 0 when every row is in."""
    end = threading.Event()
    watcher = threading.Thread(target=watch, args=(db.engine, rows, end))
    watcher.start()
    began, processor = time.perf_counter(), time.process_time()
    run_import(import_id, wiring.indexing_needs())
    seconds, processor = time.perf_counter() - began, time.process_time() - processor
    end.set()
    watcher.join()
    with Session(db.engine) as session:
        row = session.get_one(SegmentImport, import_id)
    print(
        f"{row.imported_rows:,} rows in {seconds:.1f} s: {row.imported_rows / seconds:,.0f} "
        f"rows/s; {processor:.1f} s of processor in this process"
    )
    return 0 if row.imported_rows == rows else 1


def main() -> int:
    """Measure on servers of its own."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--technique", default="high_quality", help="or economy")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with application(folder):
            status = measure(submit(folder, options.rows, options.technique), options.rows)
    return status


if __name__ == "__main__":
    sys.exit(main())
