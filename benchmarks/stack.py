"""Servers of the benchmarks' own, a migrated database, and a worker of rag-worker."""

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID, uuid4

from flask import Flask
from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from benchmarks.application import application
from shared.models import Document, DocumentStatus, db
from worker.cli.found_files import FoundFile
from worker.cli.stack.children import kill_group, spawn
from worker.cli.submitting import ensure_place, submit_files

PROCESSES = 2
_POLL_SECONDS = 0.05
_ENDED = (DocumentStatus.COMPLETED, DocumentStatus.ERROR)


@contextmanager
def stack(
    folder: Path, pool: Sequence[str] = ("-c", str(PROCESSES)), workers: int = 1, **settings: str
) -> Iterator[Flask]:
    """Servers, a migrated database and a worker, or several.

    Args:
        folder: for all data.
        pool: a worker's arguments that choose its pool.
        workers: how many.
        settings: for the worker and for this process, beside the servers' addresses.
    """
    with application(folder, **settings) as app:
        started = [
            spawn(
                [
                    *(sys.executable, "-m", "celery", "-A", "worker.celery_app", "worker"),
                    *("-Q", "dataset", *pool, "-l", "WARNING", "-n", f"worker{number}@%h"),
                ],
                log=folder / f"worker{number}.log",
                death_signal=signal.SIGKILL,
            )
            for number in range(workers)
        ]
        try:
            while len(app.extensions["celery"].control.ping(timeout=1)) < workers:
                time.sleep(0.1)
            yield app
        finally:
            for one in started:
                kill_group(one)


class Ours:
    """rag-worker as a contender: files are submitted, and the worker indexes them."""

    def __init__(self) -> None:
        self._places: dict[str, tuple[UUID, UUID]] = {}

    def index(self, files: Sequence[Path], table: str) -> tuple[float, int]:
        """From the first submission to the last completed document; a dataset is a table.

        Returns:
            Seconds, and the segments that the files' documents have.

        Raises:
            RuntimeError: a document ended with an error.
        """
        if table not in self._places:
            self._places[table] = ensure_place("bench", f"{table}-{uuid4()}")
        tenant_id, dataset_id = self._places[table]
        began = time.perf_counter()
        submit_files(tenant_id, dataset_id, [FoundFile(one, str(one)) for one in files])
        mine = Document.dataset_id == dataset_id
        # Answered by the first one that is found: to count them all takes time from the work.
        unended = select(exists().where(mine, Document.indexing_status.not_in(_ENDED)))
        with Session(db.engine) as session:
            while session.scalar(unended):
                session.rollback()
                time.sleep(_POLL_SECONDS)
            seconds = time.perf_counter() - began
            failed = session.scalars(
                select(Document.error).where(mine, Document.error.is_not(None))
            )
            if error := failed.first():
                raise RuntimeError(f"not everything was indexed: {error}")
            segments = session.scalar(select(func.sum(Document.total_segments)).where(mine))
        return seconds, segments or 0
