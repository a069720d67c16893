"""A document's part in a change of its dataset's index, made from its rows: vectors, or words."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from shared.errors import (
    ConfigurationError,
    Permanent,
    ShuttingDown,
    Superseded,
)
from shared.models import DatasetIndexBuild, Document, IndexBuildDocument
from shared.queueing import task_context
from shared.queueing.outage import RETRYABLE
from shared.queueing.task import backoff_seconds
from shared.submitting.files import storable
from worker.delivery import runs
from worker.delivery.lease import Lease, claim, release, renew
from worker.delivery.leased_run import run_leased
from worker.services.dataset import keywords
from worker.services.dataset.index_needs import Build, IndexNeeds, find_build
from worker.services.dataset.index_planning import announce_alone, parts_of
from worker.services.dataset.index_switching import finish_build, give_up_build
from worker.services.dataset.index_texts import embedded_texts, segment_texts
from worker.services.dataset.index_vectors import vectors_of
from worker.stores.vectors import VectorBatch, VectorPlace

logger = logging.getLogger(__name__)

_CLAIMABLE = (IndexBuildDocument.status == "waiting",)


@dataclass(frozen=True, slots=True)
class _Part:
    build: Build
    document_id: UUID
    lease: Lease


@dataclass(frozen=True, slots=True)
class _Served:
    version: int | None
    doc_form: str


def build_documents(build_id: UUID, documents: Sequence[UUID], needs: IndexNeeds) -> None:
    """Build the parts of documents, then switch to the index if it is whole.

    Delivered twice, or after the change was given up or replaced, it does nothing.

    Raises:
        RagWorkerError: what stopped the part of a document alone.
    """
    with needs.sessions() as session:
        build = find_build(session, build_id)
        parts = parts_of(session, build_id, documents)
    if build is None:
        return
    run = runs.current()
    if len(parts) > 1 and run is not None and run.is_again:
        # What killed the worker is then known by its own message.
        with needs.sessions.begin() as session:
            for document_id, part_id in parts.items():
                announce_alone(session, build, part_id, document_id, needs)
        return
    for document_id, part_id in parts.items():
        if len(parts) > 1:
            runs.begin_part()
        with task_context.about(document_id):
            _build_one(build, part_id, document_id, needs, is_alone=len(parts) == 1)
    finish_build(build_id, needs)


def _build_one(
    build: Build, part_id: UUID, document_id: UUID, needs: IndexNeeds, *, is_alone: bool
) -> None:
    with needs.sessions.begin() as session:
        lease = claim(session, IndexBuildDocument, part_id, needs.lease_seconds, *_CLAIMABLE)
        # After the claim: who ends a build takes the leases of its parts first.
        if lease is None or find_build(session, build.id) is None:
            session.rollback()
            return
    part = _Part(build, document_id, lease)
    try:
        run_leased(partial(_run, part, needs), lease, _Ends(part, needs), heartbeat=needs.heartbeat)
    except Superseded as reason:
        logger.info("%s", reason, extra={"action": "index.superseded"})
        _announce_again(part, needs)
        if is_alone:
            raise
    except RETRYABLE as error:
        if is_alone or isinstance(error, ShuttingDown):
            raise
        with needs.sessions.begin() as session:
            wait = backoff_seconds(0)
            announce_alone(session, build, part_id, document_id, needs, delay_seconds=wait)


def _announce_again(part: _Part, needs: IndexNeeds) -> None:
    """Send out a part that lost its lease to a change by hand, and so its message."""
    with needs.sessions.begin() as session:
        lost = select(IndexBuildDocument.id).where(
            IndexBuildDocument.id == part.lease.row_id,
            IndexBuildDocument.status == "waiting",
            IndexBuildDocument.message_id.is_(None),
            IndexBuildDocument.lease_expires_at.is_(None),
        )
        is_lost = session.scalar(lost.with_for_update(skip_locked=True)) is not None
        if is_lost and find_build(session, part.build.id) is not None:
            announce_alone(session, part.build, part.lease.row_id, part.document_id, needs)


@dataclass(frozen=True, slots=True)
class _Ends:
    _part: _Part
    _needs: IndexNeeds

    def hand_back(self, error: Exception) -> None:
        with self._needs.sessions.begin() as session:
            release(session, self._part.lease, error=storable(str(error)))

    def fail(self, error: Permanent | ConfigurationError) -> None:
        part, reason = self._part, storable(str(error))
        with self._needs.sessions.begin() as session:
            release(session, part.lease, status="error", error=reason)
        give_up_build(part.build.id, self._needs, f"document {part.document_id}: {reason}")


def _run(part: _Part, needs: IndexNeeds) -> None:
    """Build the part for the version that serves; for the next one, if that comes meanwhile."""
    while True:
        runs.checkpoint()
        served = _served(part, needs)
        if served is None:
            with needs.sessions.begin() as session:
                gone = IndexBuildDocument.id == part.lease.row_id
                session.execute(delete(IndexBuildDocument).where(gone))
            return
        make = _make_vectors if part.build.has_vectors else _make_keywords
        if served.version is None or make(part, served.version, served.doc_form, needs):
            return


def _make_vectors(part: _Part, version: int, doc_form: str, needs: IndexNeeds) -> bool:
    build, document_id = part.build, part.document_id
    store, size = needs.vectors.at(build.vector_store), build.batch_segments or needs.batch_segments
    place = VectorPlace(
        build.dataset_id,
        document_id,
        version,
        build.generation,
        part.lease.row_id,
        part.lease.token,
    )
    number = 0
    for page in embedded_texts(needs.sessions, document_id, version, doc_form, size):
        runs.checkpoint()
        vectors = vectors_of(build, document_id, version, page, needs)
        batch = VectorBatch(place, [one.id for one in page], vectors)
        if store.is_external:
            store.send(batch)
        with needs.sessions.begin() as session:
            if not _still_serves(session, document_id, version):
                return False
            renew(session, part.lease)
            store.upsert(session, batch)
            if not number:
                _note_dimension(session, build.id, int(vectors.shape[1]))
        number += len(page)
    with needs.sessions.begin() as session:
        if not _still_serves(session, document_id, version):
            return False
        if not number:
            # A part with nothing in it would make the document vanish from search.
            raise Permanent(
                f"document {document_id} holds nothing to embed in version {version}: "
                "index it again, then change the index again"
            )
        _complete(session, part, version)
        store.activate(session, place)
    return True


def _make_keywords(part: _Part, version: int, _doc_form: str, needs: IndexNeeds) -> bool:
    build, document_id = part.build, part.document_id
    owner: dict[str, UUID | int] = {
        "dataset_id": build.dataset_id,
        "document_id": document_id,
        "version": version,
    }
    segments = words = 0
    for page in segment_texts(needs.sessions, document_id, version, needs.batch_segments):
        runs.checkpoint()
        counts = keywords.count([one.content for one in page], build.dataset_id)
        segments += sum(one.length > 0 for one in counts)
        words += sum(one.length for one in counts)
        with needs.sessions.begin() as session:
            if not _still_serves(session, document_id, version):
                return False
            renew(session, part.lease)
            keywords.write(session, owner, [one.id for one in page], counts)
    with needs.sessions.begin() as session:
        counted = {"keyword_segments": segments, "keyword_words": words}
        same = Document.id == document_id, Document.active_version == version
        changed = update(Document).where(*same).values(**counted).returning(Document.id)
        if session.execute(changed).one_or_none() is None:
            return False
        _complete(session, part, version)
    return True


def _served(part: _Part, needs: IndexNeeds) -> _Served | None:
    query = select(Document.active_version, Document.doc_form).where(
        Document.id == part.document_id, Document.dataset_id == part.build.dataset_id
    )
    with needs.sessions.begin() as session:
        row = session.execute(query).one_or_none()
        if row is not None and row.active_version is None:
            _complete(session, part, None)
    return None if row is None else _Served(row.active_version, row.doc_form)


def _still_serves(session: Session, document_id: UUID, version: int) -> bool:
    # Locked: a version that is replaced takes its vectors along, these included; and a
    # document that is deleted leaves none behind.
    query = select(Document.active_version).where(Document.id == document_id)
    found: int | None = session.scalar(query.with_for_update(read=True))
    return found == version


def _note_dimension(session: Session, build_id: UUID, dimension: int) -> None:
    unknown = DatasetIndexBuild.id == build_id, DatasetIndexBuild.embedding_dimension.is_(None)
    values = {"embedding_dimension": dimension}
    session.execute(update(DatasetIndexBuild).where(*unknown).values(**values))


def _complete(session: Session, part: _Part, version: int | None) -> None:
    release(session, part.lease, status="completed", version=version, error=None)
