"""A table becomes segments: rows stream in, batches stream out, each with its checkpoint."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from shared.errors import (
    ConfigurationError,
    LeaseHeld,
    LimitExceeded,
    Permanent,
    SubjectGone,
)
from shared.models import SegmentImport, UploadFile
from shared.models.segment_work import COMPLETED, ERROR, INDEXING, WAITING
from shared.submitting.files import storable
from worker.delivery import runs
from worker.delivery.lease import Ago, claim, owner, release, renew
from worker.delivery.leased_run import (
    attempts_after,
    reason_of,
    require_attempts_left,
    run_leased,
)
from worker.services.dataset.claiming import Job, job_on_active_version
from worker.services.dataset.embedding import Known
from worker.services.dataset.extracting import extract_rows
from worker.services.dataset.needs import IndexingNeeds
from worker.services.dataset.segment_rows import segments_of_table
from worker.services.dataset.segment_writing import Content, append, lock_served, prepare, send

#: Refused rows whose reasons are kept; the others are counted.
MAX_PROBLEMS = 100
#: Of one batch: rows may be long, and a parent becomes many children.
_BATCH_CHARACTERS = 500_000
_CHECKED_ROWS = 10_000
_CONDITIONS = (SegmentImport.status.in_((WAITING, INDEXING)),)

_GIVE_UP = text("""
    UPDATE segment_imports
    SET status = 'error', error = :reason, attempts = 0, deaths = 0,
        lease_token = lease_token + 1, lease_expires_at = NULL, lease_owner = NULL
    WHERE id = :import_id AND status IN ('waiting', 'indexing')
      AND (lease_expires_at IS NULL OR lease_expires_at < now() OR lease_owner = :owner)
""")
_NOTE_FILE = text("""
    INSERT INTO removals (kind, tenant_id, dataset_id, upload_file_id)
    SELECT 'upload_file', tenant_id, dataset_id, upload_file_id FROM segment_imports
    WHERE id = :import_id AND upload_file_id IS NOT NULL
""")
_REVIVE = text("""
    UPDATE segment_imports
    SET status = 'waiting', error = NULL, attempts = 0, deaths = 0,
        queued_at = statement_timestamp()
    WHERE id = :import_id AND status = 'error'
""")

_Row = tuple[int, Content | str]


@dataclass(slots=True)
class _Done:
    """What an import has come to; all of it is written with each batch."""

    last_row: int
    imported: int
    refused: int
    problems: list[dict[str, Any]] = field(default_factory=list)

    def refuse(self, row: int, reason: str) -> None:
        self.refused += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append({"row": row, "reason": reason})

    @property
    def columns(self) -> dict[str, Any]:
        return {
            "last_row": self.last_row,
            "imported_rows": self.imported,
            "refused_rows": self.refused,
            "problems": self.problems,
        }


@dataclass(frozen=True, slots=True)
class _Work:
    import_id: UUID
    job: Job
    done: _Done


def run_import(import_id: UUID, needs: IndexingNeeds) -> None:
    """Add a table's rows to its document, from the first that is not done yet.

    Memory follows ``needs.batch_segments``, not the size of the table. Whatever stops it,
    the rows up to the checkpoint are in, once, and the next delivery goes on behind them.

    Raises:
        SubjectGone: (superseded) the import or its document was deleted.
        LeaseLost: (superseded) another worker took it over.
        LeaseHeld: (superseded) another worker has it now.
        Permanent: the import's ``error`` says why.
    """
    with needs.sessions.begin() as session:
        work = _claim(session, import_id, needs.lease_seconds)
    if work is None:
        return
    ends = _Ends(work, needs)
    run_leased(partial(_run, work, needs), work.job.lease, ends, heartbeat=needs.heartbeat)


def give_up_import(import_id: UUID, needs: IndexingNeeds, reason: str) -> None:
    """End an import as ``error``; one that somebody else works on is left alone."""
    values = {"import_id": import_id, "owner": owner(), "reason": storable(reason)}
    with needs.sessions.begin() as session:
        session.execute(_GIVE_UP, values)


def revive_import(session: Session, import_id: UUID) -> None:
    """Let an import that ended as ``error`` go on, in the caller's transaction."""
    session.execute(_REVIVE, {"import_id": import_id})


def _claim(session: Session, import_id: UUID, lease_seconds: float) -> _Work | None:
    lease = claim(session, SegmentImport, import_id, lease_seconds, *_CONDITIONS, status=INDEXING)
    row = session.execute(
        select(SegmentImport, UploadFile)
        .outerjoin(UploadFile, UploadFile.id == SegmentImport.upload_file_id)
        .where(SegmentImport.id == import_id)
    ).one_or_none()
    if row is None:
        raise SubjectGone(f"there is no import {import_id} (any more)")
    made, file = row.SegmentImport, row.UploadFile
    if lease is None:
        if made.status in {COMPLETED, ERROR}:
            return None
        raise LeaseHeld(f"import {import_id} is being done by {made.lease_owner}")
    job = replace(
        job_on_active_version(session, lease, made.document_id),
        # Another one active is noticed by the first batch.
        version=made.version,
        name=file.name if file else "the table",
        storage_key=file.storage_key if file else "",
        size_bytes=file.size_bytes if file else 0,
        last_error=made.error,
    )
    done = _Done(made.last_row, made.imported_rows, made.refused_rows, list(made.problems))
    return _Work(import_id, job, done)


@dataclass(frozen=True, slots=True)
class _Ends:
    _work: _Work
    _needs: IndexingNeeds

    def hand_back(self, error: Exception) -> None:
        lease = self._work.job.lease
        reason = storable(reason_of(lease, error))
        attempts = attempts_after(lease, error)
        with self._needs.sessions.begin() as session:
            release(session, lease, status=WAITING, error=reason, attempts=attempts)

    def fail(self, error: Permanent | ConfigurationError) -> None:
        lease, reason = self._work.job.lease, storable(str(error))
        with self._needs.sessions.begin() as session:
            release(session, lease, status=ERROR, error=reason, attempts=0, deaths=0)


def _run(work: _Work, needs: IndexingNeeds) -> None:
    job, done = work.job, work.done
    require_attempts_left(
        job.lease,
        "this import",
        max_attempts=needs.max_attempts,
        max_deaths=needs.max_deaths,
        last_error=job.last_error,
    )
    if not done.last_row:
        _require_table(job, needs)
    with needs.files.open(job.storage_key) as file:
        rows = extract_rows(file, job.name, job.size_bytes, needs.limits, is_strict=True)
        left = (
            row for row in segments_of_table(rows, job.doc_form, job.name) if row[0] > done.last_row
        )
        for batch in _batches(left, needs.batch_segments):
            runs.checkpoint()
            _import_batch(work, needs, batch)
    _finish(work, needs)


def _require_table(job: Job, needs: IndexingNeeds) -> None:
    """Read it once before a row goes in: a mended table, imported again, doubles nothing."""
    with needs.files.open(job.storage_key) as file:
        for number, _ in extract_rows(file, job.name, job.size_bytes, needs.limits, is_strict=True):
            if number % _CHECKED_ROWS == 0:
                runs.checkpoint()


def _batches(rows: Iterable[_Row], size: int) -> Iterator[list[_Row]]:
    batch: list[_Row] = []
    characters = 0
    for row in rows:
        batch.append(row)
        characters += len(row[1].text) if isinstance(row[1], Content) else 0
        if len(batch) >= size or characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _import_batch(work: _Work, needs: IndexingNeeds, batch: list[_Row]) -> None:
    job = work.job
    # A copy: a batch that is not committed has not been done.
    done = replace(work.done, last_row=batch[-1][0], problems=list(work.done.problems))
    good: list[tuple[int, Content]] = []
    for number, content in batch:
        if isinstance(content, Content):
            good.append((number, content))
        else:
            done.refuse(number, content)
    made = prepare(job, [content for _, content in good], needs, _nothing_known) if good else []
    found = []
    for (number, _), one in zip(good, made, strict=True):
        if one.can_be_found:
            found.append((_segment_id(work.import_id, number), one))
        else:
            done.refuse(number, "it holds no word that a keyword search could find")
    done.imported += len(found)
    ids, prepared = [one for one, _ in found], [one for _, one in found]
    if found:
        send(needs.vectors.at(job.vector_store), job, ids, prepared)
    with needs.sessions.begin() as session:
        served = lock_served(session, job)
        if served is None:
            renew(session, job.lease)  # lost, when the document was deleted
            raise Permanent(
                f"the document was indexed again meanwhile: {work.done.imported:,} rows had gone "
                "into the version before; import the table again"
            )
        if served.total_segments + len(found) > needs.max_segments:
            raise LimitExceeded(
                f"the document would have more than {needs.max_segments:,} segments: "
                "import into another one, or raise INDEXING_MAX_SEGMENTS"
            )
        # The checkpoint, by the token: a lost lease writes nothing.
        renew(session, job.lease, **done.columns)
        if found:
            append(session, job, needs, served, ids, prepared)
    work.done.last_row, work.done.imported = done.last_row, done.imported
    work.done.refused, work.done.problems = done.refused, done.problems


def _nothing_known(_: object) -> dict[str, Known]:
    # Rows repeat nothing of the document; what was embedded before is in the embedder's cache.
    return {}


def _segment_id(import_id: UUID, row: int) -> UUID:
    return uuid5(import_id, str(row))


def _finish(work: _Work, needs: IndexingNeeds) -> None:
    done = work.done
    if not done.imported:
        first = "; ".join(f"row {one['row']}: {one['reason']}" for one in done.problems[:3])
        raise Permanent(
            f"{work.job.name}: no row could be imported"
            + (f" ({first})" if first else ": it has none but the names of its columns")
        )
    with needs.sessions.begin() as session:
        release(
            session,
            work.job.lease,
            status=COMPLETED,
            error=None,
            attempts=0,
            deaths=0,
            completed_at=Ago(),
        )
        # Its rows are segments now; one that ended as error keeps its file, to go on with.
        session.execute(_NOTE_FILE, {"import_id": work.import_id})
