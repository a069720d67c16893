"""The sync of a URL: fetched, compared, and made a new version only if its content changed."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, BinaryIO, Protocol
from uuid import UUID

from sqlalchemy import func, update
from sqlalchemy.orm import Session, sessionmaker

from shared.errors import ConfigurationError, Permanent, ShuttingDown
from shared.models import DocumentStatus, UrlSource
from shared.models.document_status import require_transition
from shared.submitting.files import StoredFile, storable, upload_files
from worker.delivery import runs
from worker.delivery.lease import Ago, release, renew
from worker.delivery.leased_run import (
    KeepsLeases,
    attempts_after,
    reason_of,
    require_attempts_left,
    run_leased,
)
from worker.providers.fetcher import Fetched, Fetcher
from worker.services.dataset.needs import Announce, Guard, Progress
from worker.services.dataset.source_claiming import SourceJob, claim_source
from worker.services.dataset.source_names import source_name

Store = Callable[[UUID, str, BinaryIO], StoredFile]


class Synced(StrEnum):
    """What a sync came to."""

    NOTHING_TO_DO = "nothing_to_do"  #: paused, or a version of it is being indexed
    UNCHANGED = "unchanged"  #: the content is what is indexed
    AGAIN = "again"  #: unchanged, and announced: it ended as error before
    CHANGED = "changed"  #: new content, announced for indexing


class SourceGuard(Guard, Protocol):
    """The guard, which a new version takes over."""

    def acquire(self, document_id: UUID, version: int) -> None:
        """Set it."""


@dataclass(frozen=True, slots=True)
class SyncNeeds:
    """Everything a sync touches.

    Attributes:
        store: puts a tenant's file of a name into the storage.
        lease_seconds: life of the lease; the heartbeat renews it.
        max_attempts: pick-ups before the sync ends.
        max_deaths: workers that may die on it before it ends.
    """

    sessions: sessionmaker[Session]
    fetcher: Fetcher
    store: Store
    guard: SourceGuard
    progress: Progress
    heartbeat: KeepsLeases
    announce: Announce
    lease_seconds: float
    max_attempts: int
    max_deaths: int


def sync_document(document_id: UUID, dataset_id: UUID, needs: SyncNeeds) -> Synced:
    """Fetch a document's URL; what changed becomes a new version and is announced for indexing.

    Delivered twice it finds the content unchanged. The version that serves goes on
    serving whatever comes of it. No transaction is open while it fetches.

    Raises:
        SubjectGone: (superseded) the document was deleted, or is not of this dataset.
        LeaseLost: (superseded) another worker took it over, or somebody else changed it.
        LeaseHeld: (superseded) another worker has it now.
        SourceUnusable: (permanent) and its kin; written to the row's ``error``.
        ServiceUnavailable: (transient) the server does not answer, or not now.
    """
    with needs.sessions.begin() as session:
        job = claim_source(session, document_id, dataset_id, needs.lease_seconds)
    if job is None:
        return Synced.NOTHING_TO_DO
    keeps_guard = False
    run = partial(_run, job, needs)
    try:
        synced = run_leased(run, job.lease, _Ends(job, needs), heartbeat=needs.heartbeat)
        keeps_guard = synced in {Synced.CHANGED, Synced.AGAIN}
        return synced
    finally:
        if not keeps_guard:
            needs.guard.release(job.document_id, job.version)


@dataclass(frozen=True, slots=True)
class _Ends:
    _job: SourceJob
    _needs: SyncNeeds

    def hand_back(self, error: Exception) -> None:
        job = self._job
        values: dict[str, Any] = {"attempts": attempts_after(job.lease, error)}
        if not isinstance(error, ShuttingDown) and job.status is not DocumentStatus.COMPLETED:
            values["error"] = storable(reason_of(job.lease, error))
        with self._needs.sessions.begin() as session:
            release(session, job.lease, **values)

    def fail(self, error: Permanent | ConfigurationError) -> None:
        # A version that serves goes on serving.
        job, reason = self._job, storable(str(error))
        values: dict[str, Any] = {}
        if job.status is not DocumentStatus.COMPLETED:
            values = {"indexing_status": DocumentStatus.ERROR, "stopped_at": Ago()}
        if job.active_version is not None:
            reason = f"{reason}; the content of before serves on"
        with self._needs.sessions.begin() as session:
            release(session, job.lease, error=reason, attempts=0, deaths=0, **values)
            _note(session, job)
        self._needs.progress.publish(job.document_id, status=DocumentStatus.ERROR, error=reason)


def _run(job: SourceJob, needs: SyncNeeds) -> Synced:
    runs.checkpoint()
    require_attempts_left(
        job.lease,
        "this URL",
        max_attempts=needs.max_attempts,
        max_deaths=needs.max_deaths,
        last_error=job.last_error,
        way_out="sync it again to start over",
    )
    with needs.fetcher.fetch(job.url, job.validators, runs.checkpoint) as fetched:
        if fetched is None or (job.has_file and fetched.sha256 == job.sha256):
            return _unchanged(job, needs, fetched)
        name = source_name(fetched.url, fetched.content_type)
        stored = needs.store(job.tenant_id, name, fetched.file)
    runs.checkpoint()
    return _changed(job, needs, fetched, stored)


def _unchanged(job: SourceJob, needs: SyncNeeds, fetched: Fetched | None) -> Synced:
    is_again = job.status is DocumentStatus.ERROR
    values: dict[str, Any] = {"stopped_at": None} if is_again else {}
    if is_again:
        require_transition(job.status, DocumentStatus.WAITING)
        values["indexing_status"] = DocumentStatus.WAITING
    with needs.sessions.begin() as session:
        # First the lease: its row lock holds off a new owner until this commits.
        release(session, job.lease, error=None, attempts=0, deaths=0, **values)
        _note(session, job, **({} if fetched is None else _said(fetched)))
        if is_again:
            needs.announce(session, [job.document_id])
    return Synced.AGAIN if is_again else Synced.UNCHANGED


def _changed(job: SourceJob, needs: SyncNeeds, fetched: Fetched, stored: StoredFile) -> Synced:
    version = job.version + job.needs_new_version
    if job.status is not DocumentStatus.WAITING:
        require_transition(job.status, DocumentStatus.WAITING)
    with needs.sessions.begin() as session:
        renew(session, job.lease)
        uploads = upload_files(session, job.tenant_id, [stored])
        release(
            session,
            job.lease,
            indexing_status=DocumentStatus.WAITING,
            index_version=version,
            upload_file_id=uploads[stored.sha256, stored.name],
            name=stored.name,
            error=None,
            attempts=0,
            deaths=0,
            stopped_at=None,
        )
        _note(session, job, sha256=fetched.sha256, changed_at=func.now(), **_said(fetched))
        # Before the commit: the run that it sends out frees this version's guard.
        if version != job.version:
            needs.guard.release(job.document_id, job.version)
        needs.guard.acquire(job.document_id, version)
        needs.announce(session, [job.document_id])
    return Synced.CHANGED


def _said(fetched: Fetched) -> dict[str, str | None]:
    return {
        "final_url": storable(fetched.url),
        "etag": fetched.etag,
        "last_modified": fetched.last_modified,
        "content_type": fetched.content_type[:255],
    }


def _note(session: Session, job: SourceJob, **values: Any) -> None:
    session.execute(
        update(UrlSource)
        .where(UrlSource.document_id == job.document_id)
        .values(checked_at=func.now(), **values)
    )
