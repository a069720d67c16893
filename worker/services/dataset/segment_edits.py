"""One segment gets the content that a person gave it; until then its old content serves."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from uuid import UUID

from sqlalchemy import delete, select, text, update
from sqlalchemy.orm import Session

from shared.errors import (
    ConfigurationError,
    LeaseHeld,
    LeaseLost,
    Permanent,
    SubjectGone,
)
from shared.models import Document, DocumentSegment, SegmentEdit
from shared.models.process_rule import DocForm
from shared.models.segment_work import COMPLETED, ERROR, INDEXING, WAITING
from shared.submitting.files import storable
from worker.delivery import runs
from worker.delivery.lease import claim, owner, release
from worker.delivery.leased_run import (
    attempts_after,
    reason_of,
    require_attempts_left,
    run_leased,
)
from worker.services.dataset.claiming import Job, job_on_active_version
from worker.services.dataset.embedding import Known, Lookup
from worker.services.dataset.needs import IndexingNeeds
from worker.services.dataset.segment_writing import Content, lock_served, prepare, send, switch
from worker.services.dataset.serving import vectors_by_content

logger = logging.getLogger(__name__)

#: Written once, so that the claim's statement is built once.
_CONDITIONS = (SegmentEdit.status.in_((WAITING, INDEXING)),)

# A producer that only wrote a segment that waits, and sent the message.
_ADOPT = text("""
    INSERT INTO segment_edits (
        id, tenant_id, dataset_id, document_id, segment_id, version, content, answer, keywords
    )
    SELECT gen_random_uuid(), segment.tenant_id, segment.dataset_id, segment.document_id,
           segment.id, segment.version, segment.content, segment.answer, segment.keywords
    FROM document_segments AS segment JOIN documents ON documents.id = segment.document_id
    WHERE segment.id = :segment_id AND segment.status = 'waiting'
    ON CONFLICT DO NOTHING
""")
_GIVE_UP = text("""
    UPDATE segment_edits
    SET status = 'error', error = :reason, attempts = 0, deaths = 0,
        lease_token = lease_token + 1, lease_expires_at = NULL, lease_owner = NULL
    WHERE segment_id = :segment_id AND status <> 'error'
      AND (lease_expires_at IS NULL OR lease_expires_at < now() OR lease_owner = :owner)
    RETURNING segment_id
""")


@dataclass(frozen=True, slots=True)
class _Work:
    segment_id: UUID
    job: Job
    content: Content


def index_segment(segment_id: UUID, needs: IndexingNeeds) -> None:
    """Let search see a segment's newest content, in one transaction with all that finds it.

    Delivered twice it does nothing the second time; a newer edit replaces an older one that
    is still being indexed.

    Raises:
        SubjectGone: (superseded) the segment was deleted, or its version serves no longer.
        LeaseLost: (superseded) the segment was edited again, or another worker took it over.
        LeaseHeld: (superseded) another worker has it now.
        Permanent: the segment's ``error`` says why; its old content goes on serving.
    """
    with needs.sessions.begin() as session:
        work = _claim(session, segment_id, needs.lease_seconds)
    if work is None:
        return
    ends = _Ends(work, needs)
    run_leased(partial(_run, work, needs), work.job.lease, ends, heartbeat=needs.heartbeat)


def give_up_segment(segment_id: UUID, needs: IndexingNeeds, reason: str) -> None:
    """End a segment's edit as ``error``; one that somebody else works on is left alone."""
    values = {"segment_id": segment_id, "owner": owner(), "reason": storable(reason)}
    with needs.sessions.begin() as session:
        if session.execute(_GIVE_UP, values).one_or_none() is not None:
            _mark(session, segment_id, ERROR, storable(reason))


def revive_segment(session: Session, segment_id: UUID) -> None:
    """Let a segment's edit that ended as ``error`` wait again, in the caller's transaction."""
    revived = session.connection().scalars(
        update(SegmentEdit)
        .where(SegmentEdit.segment_id == segment_id, SegmentEdit.status == ERROR)
        .values(status=WAITING, error=None, attempts=0, deaths=0)
        .returning(SegmentEdit.id)
    )
    if revived.all():
        _mark(session, segment_id, WAITING, None)


def _claim(session: Session, segment_id: UUID, lease_seconds: float) -> _Work | None:
    session.execute(_ADOPT, {"segment_id": segment_id})
    query = select(SegmentEdit).where(SegmentEdit.segment_id == segment_id)
    edit = session.scalars(query).one_or_none()
    if edit is None:
        # Rows of a deleted document are cleaned up after it.
        is_there = select(DocumentSegment.id).join(
            Document, Document.id == DocumentSegment.document_id
        )
        if session.scalar(is_there.where(DocumentSegment.id == segment_id)) is None:
            raise SubjectGone(f"there is no segment {segment_id} (any more)")
        return None
    lease = claim(session, SegmentEdit, edit.id, lease_seconds, *_CONDITIONS, status=INDEXING)
    # What it says was read before its row was locked.
    edit = session.scalars(query, execution_options={"populate_existing": True}).one_or_none()
    if edit is None:
        return None  # done, or deleted, since
    if lease is None:
        if edit.status == ERROR:
            return None
        raise LeaseHeld(f"segment {segment_id} is being indexed by {edit.lease_owner}")
    job = replace(job_on_active_version(session, lease, edit.document_id), last_error=edit.error)
    if edit.version != job.version:
        session.delete(edit)
        logger.info(
            "segment %s is of a version that serves no longer",
            segment_id,
            extra={"action": "segment.superseded"},
        )
        return None
    _mark(session, segment_id, INDEXING, None)
    return _Work(segment_id, job, Content(edit.content, edit.answer, edit.keywords))


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
            _mark(session, self._work.segment_id, WAITING, reason)

    def fail(self, error: Permanent | ConfigurationError) -> None:
        reason = storable(str(error))
        with self._needs.sessions.begin() as session:
            release(session, self._work.job.lease, status=ERROR, error=reason, attempts=0, deaths=0)
            _mark(session, self._work.segment_id, ERROR, reason)


def _run(work: _Work, needs: IndexingNeeds) -> None:
    runs.checkpoint()
    job = work.job
    require_attempts_left(
        job.lease,
        "this segment",
        max_attempts=needs.max_attempts,
        max_deaths=needs.max_deaths,
        last_error=job.last_error,
        way_out="enable it to try again",
    )
    (prepared,) = prepare(job, [work.content], needs, _lookup(work, needs))
    if not prepared.can_be_found:
        raise Permanent(
            "it holds no word that a keyword search could find: give it text, or keywords"
        )
    send(needs.vectors.at(job.vector_store), job, [work.segment_id], [prepared])
    with needs.sessions.begin() as session:
        served = lock_served(session, job)
        if served is None:
            raise SubjectGone(f"the version of segment {work.segment_id} serves no longer")
        _end(session, job)
        if not switch(session, job, needs, served, work.segment_id, prepared):
            raise SubjectGone(f"segment {work.segment_id} was deleted")


def _end(session: Session, job: Job) -> None:
    """Do away with the edit: the segment has its content when the transaction commits."""
    mine = (SegmentEdit.id == job.lease.row_id, SegmentEdit.lease_token == job.lease.token)
    statement = delete(SegmentEdit).where(*mine).returning(SegmentEdit.id)
    if session.connection().execute(statement).one_or_none() is None:
        raise LeaseLost(f"edit {job.lease.row_id}: token {job.lease.token} is not the newest")


def _lookup(work: _Work, needs: IndexingNeeds) -> Lookup:
    """The segment's own vector, where only other things than its text change; its children's."""
    job = work.job
    if job.doc_form == DocForm.HIERARCHICAL:
        return vectors_by_content(needs, job)

    def look(hashes: Sequence[str]) -> dict[str, Known]:
        if not job.has_vectors:
            return {}
        with needs.sessions() as session:
            query = select(DocumentSegment.index_node_hash, DocumentSegment.tokens)
            row = session.execute(
                query.where(
                    DocumentSegment.id == work.segment_id,
                    DocumentSegment.index_node_hash.in_(hashes),
                )
            ).one_or_none()
            if row is None:
                return {}
            vectors = needs.vectors.at(job.vector_store).fetch(
                session, job.document_id, job.version, job.generation, [work.segment_id]
            )
        if not vectors:
            return {}
        return {row.index_node_hash: Known(vectors[work.segment_id], row.tokens)}

    return look


def _mark(session: Session, segment_id: UUID, status: str, error: str | None) -> None:
    # One that is completed is the old content of a segment whose edit was overtaken.
    session.execute(
        update(DocumentSegment)
        .where(DocumentSegment.id == segment_id, DocumentSegment.status != COMPLETED)
        .values(status=status, error=error)
    )
