"""One work from its claim to its end, whatever is to be written."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from shared.errors import (
    ConfigurationError,
    LeaseHeld,
    Permanent,
    RateLimited,
    ServiceAway,
    SubjectGone,
)
from shared.models import Document, GenerationKind, GenerationWork
from shared.models.generation import COMPLETED, ERROR, RUNNING, WAITING
from shared.submitting.control import announce_waiting
from shared.submitting.files import storable
from worker.delivery import runs
from worker.delivery.lease import Ago, Lease, claim, owner, release
from worker.delivery.leased_run import attempts_after, require_attempts_left, run_leased
from worker.services.generation.needs import GenerationNeeds

#: Written once, so that the claim's statement is built once.
_CONDITIONS = (GenerationWork.status.in_((WAITING, RUNNING)),)

# A producer that only sent the message: the row is written from what it names.
_ADOPT = {
    GenerationKind.DOCUMENT_SUMMARY: text("""
        INSERT INTO generation_works (id, tenant_id, kind, subject_id, document_id)
        SELECT gen_random_uuid(), tenant_id, 'document_summary', id, id
        FROM documents WHERE id = :subject_id AND active_version IS NOT NULL
        ON CONFLICT DO NOTHING
    """),
    GenerationKind.CONVERSATION_TITLE: text("""
        INSERT INTO generation_works (id, tenant_id, kind, subject_id, conversation_id)
        SELECT gen_random_uuid(), tenant_id, 'conversation_title', id, id
        FROM conversations WHERE id = :subject_id
        ON CONFLICT DO NOTHING
    """),
    GenerationKind.CONVERSATION_SUMMARY: text("""
        INSERT INTO generation_works (id, tenant_id, kind, subject_id, conversation_id)
        SELECT gen_random_uuid(), tenant_id, 'conversation_summary', id, id
        FROM conversations WHERE id = :subject_id
        ON CONFLICT DO NOTHING
    """),
}
_GIVE_UP = text("""
    UPDATE generation_works
    SET status = 'error', error = :reason, attempts = 0, deaths = 0,
        lease_token = lease_token + 1, lease_expires_at = NULL, lease_owner = NULL
    WHERE kind = :kind AND subject_id = :subject_id AND status IN ('waiting', 'running')
      AND (lease_expires_at IS NULL OR lease_expires_at < now() OR lease_owner = :owner)
    RETURNING document_id
""")
_REVIVE = text("""
    UPDATE generation_works
    SET status = 'waiting', error = NULL, attempts = 0, deaths = 0,
        queued_at = statement_timestamp()
    WHERE kind = :kind AND subject_id = :subject_id AND status = 'error'
""")


@dataclass(frozen=True, slots=True)
class Work:
    """What a run needs to know of its row; read once, at the claim."""

    lease: Lease
    tenant_id: UUID
    kind: GenerationKind
    subject_id: UUID
    document_id: UUID | None
    state: dict[str, Any]
    result: str | None
    source_hash: str | None
    model: str | None
    is_extractive: bool
    last_error: str | None


Write = Callable[[Work, GenerationNeeds], None]


def run_work(kind: GenerationKind, subject_id: UUID, write: Write, needs: GenerationNeeds) -> None:
    """Do what is to be written about a subject; delivered twice it is done once.

    Args:
        kind: what.
        subject_id: about which row.
        write: writes it, and ends with ``finish`` in the transaction of its result.
        needs: collaborators.

    Raises:
        SubjectGone: (superseded) the subject was deleted.
        LeaseLost: (superseded) another worker took it over.
        LeaseHeld: (superseded) another worker has it now.
        Transient: the row waits again.
        Permanent: the row's ``error`` says why.
    """
    with needs.sessions.begin() as session:
        work = _claim(session, kind, subject_id, needs.lease_seconds)
    if work is None:
        return
    ends = _Ends(work, needs)
    run_leased(partial(_run, work, write, needs), work.lease, ends, heartbeat=needs.heartbeat)


def finish(session: Session, lease: Lease, **values: Any) -> None:
    """End a work as completed, in the transaction of its result.

    Raises:
        LeaseLost: another worker has it, or it is gone; the result must not be written.
    """
    release(
        session,
        lease,
        status=COMPLETED,
        completed_at=Ago(),
        error=None,
        attempts=0,
        deaths=0,
        state={},
        **values,
    )


def give_up_work(
    kind: GenerationKind, subject_id: UUID, needs: GenerationNeeds, reason: str
) -> None:
    """End a work as ``error``; one that somebody else works on is left alone."""
    values = {"kind": kind, "subject_id": subject_id, "owner": owner(), "reason": storable(reason)}
    with needs.sessions.begin() as session:
        row = session.execute(_GIVE_UP, values).one_or_none()
        if row is not None and kind is GenerationKind.QA_PAIRS:
            tell_document(session, row.document_id, needs)


def revive_work(session: Session, kind: GenerationKind, subject_id: UUID) -> None:
    """Let a work that ended as ``error`` wait again, in the caller's transaction."""
    session.execute(_REVIVE, {"kind": kind, "subject_id": subject_id})


def tell_document(session: Session, document_id: UUID, needs: GenerationNeeds) -> None:
    """Let a document that waits for a work go on, in the caller's transaction."""
    query = select(Document.id).where(Document.id == document_id)
    waits = query.where(Document.indexing_status == WAITING, Document.is_paused.is_(False))
    if session.scalar(waits.with_for_update(key_share=True)) is not None:
        announce_waiting(session, [document_id], celery=needs.celery)


def _claim(
    session: Session, kind: GenerationKind, subject_id: UUID, lease_seconds: float
) -> Work | None:
    if kind in _ADOPT:
        session.execute(_ADOPT[kind], {"subject_id": subject_id})
    query = select(GenerationWork).where(
        GenerationWork.kind == kind, GenerationWork.subject_id == subject_id
    )
    row = session.scalars(query).one_or_none()
    if row is None:
        raise SubjectGone(f"there is nothing to write about {subject_id} (any more)")
    lease = claim(session, GenerationWork, row.id, lease_seconds, *_CONDITIONS, status=RUNNING)
    row = session.scalars(query, execution_options={"populate_existing": True}).one_or_none()
    if row is None:
        raise SubjectGone(f"there is nothing to write about {subject_id} (any more)")
    if lease is None:
        if row.status in {COMPLETED, ERROR}:
            return None
        raise LeaseHeld(f"{kind} of {subject_id} is being written by {row.lease_owner}")
    return Work(
        lease=lease,
        tenant_id=row.tenant_id,
        kind=kind,
        subject_id=subject_id,
        document_id=row.document_id,
        state=dict(row.state),
        result=row.result,
        source_hash=row.source_hash,
        model=row.model,
        is_extractive=row.is_extractive,
        last_error=row.error,
    )


def _run(work: Work, write: Write, needs: GenerationNeeds) -> None:
    runs.checkpoint()
    require_attempts_left(
        work.lease,
        "this work",
        max_attempts=needs.max_attempts,
        max_deaths=needs.max_deaths,
        last_error=work.last_error,
        way_out="ask for it again to start over",
    )
    write(work, needs)


@dataclass(frozen=True, slots=True)
class _Ends:
    _work: Work
    _needs: GenerationNeeds

    def hand_back(self, error: Exception) -> None:
        lease = self._work.lease
        waits = isinstance(error, (RateLimited, ServiceAway))
        said = "waits its turn" if waits else f"attempt {lease.attempt} will be repeated"
        with self._needs.sessions.begin() as session:
            attempts = attempts_after(lease, error)
            reason = storable(f"{said}: {error}")
            release(session, lease, status=WAITING, error=reason, attempts=attempts)

    def fail(self, error: Permanent | ConfigurationError) -> None:
        work, needs = self._work, self._needs
        with needs.sessions.begin() as session:
            if work.kind is GenerationKind.QA_PAIRS and work.document_id is not None:
                tell_document(session, work.document_id, needs)
            reason = storable(str(error))
            release(session, work.lease, status=ERROR, error=reason, attempts=0, deaths=0)
