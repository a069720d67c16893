"""A version's rows and the switch to it: every write is fenced by the lease."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from shared.errors import EmptyFile, ParserDied, ShuttingDown
from shared.models import Dataset, DocumentSegment, DocumentStatus, DocumentVersion
from shared.models.document_status import require_transition
from shared.models.segment_work import COMPLETED
from shared.submitting.generation import outdate_document_summary
from worker.delivery.lease import Ago, release, renew
from worker.delivery.leased_run import attempts_after, reason_of
from worker.services.dataset import batch_rows, segments, vector_batches
from worker.services.dataset.batch_rows import Batch, Stored, words_of
from worker.services.dataset.claiming import Job
from worker.services.dataset.cleaning import clean
from worker.services.dataset.embedding import EmbeddedPassage
from worker.services.dataset.fingerprints import fingerprint
from worker.services.dataset.needs import IndexingNeeds
from worker.services.dataset.stages import Stages

_NOTHING: Stored = MappingProxyType({})
# A server that crashes loses nothing that search sees: the switch waits for all before it, and
# an attempt without its batches is begun over.
_WITHOUT_WAITING = text("SET LOCAL synchronous_commit = off")


@dataclass(slots=True)
class Totals:
    """What a run has written, the batch at hand included; ``texts`` are those embedded."""

    segments: int = 0
    texts: int = 0
    tokens: int = 0
    words: int = 0
    #: ``None`` where no keywords are kept.
    keyword_segments: int | None = None
    keyword_words: int | None = None
    #: Of the segments' content hashes, one after the other.
    contents: "hashlib._Hash" = field(default_factory=hashlib.sha256)


def forget_earlier_attempts(needs: IndexingNeeds, job: Job) -> None:
    """Delete what an attempt before this one left: it may have split the file otherwise.

    Raises:
        LeaseLost: another worker has the document; nothing is deleted.
    """
    # By the token: an attempt that was handed back, paused or replaced is not counted.
    if job.lease.token > 1:
        with needs.sessions.begin() as session:
            renew(session, job.lease)
            _delete_other_versions(session, needs, job, keep=job.active_version)


def write_batch(
    session: Session,
    needs: IndexingNeeds,
    job: Job,
    stages: Stages,
    totals: Totals,
    embedded: Sequence[EmbeddedPassage],
    stored: Stored = _NOTHING,
) -> None:
    """Write a batch, its checkpoint and the lease's renewal, in the caller's transaction.

    Raises:
        LeaseLost: another worker has the document; nothing is written.
        SegmentsChanged: (transient) what is in ``stored`` was changed meanwhile; likewise.
    """
    batch = _count(needs, job, totals, embedded, stored)
    session.execute(_WITHOUT_WAITING)
    # First the lease: its row lock holds off a new owner until this commits.
    renew(
        session,
        job.lease,
        indexing_status=stages.status,
        completed_segments=totals.segments,
        **stages.columns(),
    )
    batch_rows.write(session, needs, job, batch)


def complete(
    session: Session,
    needs: IndexingNeeds,
    job: Job,
    stages: Stages,
    totals: Totals,
    embedded: Sequence[EmbeddedPassage],
    stored: Stored = _NOTHING,
) -> None:
    """Write the last batch and switch search to the new version, in the caller's transaction.

    Raises:
        LeaseLost: another worker has the document; nothing is written.
        EmptyFile: (permanent) nothing of it could be found by a search.
        IndexReplaced: (transient) the dataset has another index meanwhile; nothing is written.
        SegmentsChanged: (transient) what is in ``stored`` was changed meanwhile; likewise.
    """
    batch = last_batch(needs, job, stages, totals, embedded, stored)
    complete_counted(session, needs, job, stages, totals, batch)


def last_batch(
    needs: IndexingNeeds,
    job: Job,
    stages: Stages,
    totals: Totals,
    embedded: Sequence[EmbeddedPassage],
    stored: Stored = _NOTHING,
) -> Batch:
    """The last batch counted, in no transaction.

    Raises:
        EmptyFile: (permanent) nothing of the document could be found by a search.
    """
    require_transition(stages.status, DocumentStatus.COMPLETED)
    batch = _count(needs, job, totals, embedded, stored)
    if not (totals.texts if job.has_vectors else totals.keyword_segments):
        raise EmptyFile(
            f"{job.name} holds no word that a search could find: upload a file with text in it"
        )
    return batch


def complete_counted(
    session: Session, needs: IndexingNeeds, job: Job, stages: Stages, totals: Totals, batch: Batch
) -> None:
    """As ``complete``, of a batch that ``last_batch`` has counted."""
    release(
        session,
        job.lease,
        indexing_status=DocumentStatus.COMPLETED,
        active_version=job.version,
        error=None,
        attempts=0,
        deaths=0,
        completed_at=Ago(),
        indexing_latency=stages.seconds,
        word_count=totals.words,
        tokens=totals.tokens,
        total_segments=totals.segments,
        completed_segments=totals.segments,
        keyword_segments=totals.keyword_segments,
        keyword_words=totals.keyword_words,
        fingerprint=fingerprint_of(needs, job, totals, batch.embedded),
        **stages.columns(),
    )
    vector_batches.require_same_index(session, job)
    dimension = batch_rows.write(session, needs, job, batch)
    if job.has_vectors:
        store = needs.vectors.at(job.vector_store)
        store.activate(session, job.place)
    if job.has_vectors and job.embedding_dimension is None:
        session.execute(
            update(Dataset)
            .where(Dataset.id == job.dataset_id, Dataset.embedding_dimension.is_(None))
            .values(embedding_dimension=dimension, vector_store=store.name)
        )
    if job.rule_id is not None:
        keep_rule(session, job)
    if job.active_version is not None:
        _delete_other_versions(session, needs, job, keep=job.version)
        # The old one went with its version.
        outdate_document_summary(session, job.document_id)


def fail(needs: IndexingNeeds, job: Job, reason: str) -> None:
    """End the document as ``error``; what this version wrote goes, the old one goes on serving."""
    with needs.sessions.begin() as session:
        renew(session, job.lease)
        _delete_other_versions(session, needs, job, keep=job.active_version)
        left, completed = _segments_left(session, job)
        release(
            session,
            job.lease,
            indexing_status=DocumentStatus.ERROR,
            error=clean(reason),
            attempts=0,
            deaths=0,
            stopped_at=Ago(),
            completed_segments=completed,
            total_segments=left,
        )
    needs.progress.publish(job.document_id, status=DocumentStatus.ERROR, error=reason)


def hand_back(needs: IndexingNeeds, job: Job, reason: Exception) -> None:
    """Free the document for the next delivery; ``error`` says what stopped this attempt.

    Raises:
        LeaseLost: another worker has it already.
    """
    values: dict[str, Any] = {"attempts": attempts_after(job.lease, reason)}
    if not isinstance(reason, ShuttingDown):
        values["error"] = reason_of(job.lease, reason)
    if isinstance(reason, ParserDied):  # as if it had been the worker's own process
        values["deaths"] = job.lease.deaths + 1
    with needs.sessions.begin() as session:
        release(session, job.lease, indexing_status=DocumentStatus.WAITING, **values)


def _delete_other_versions(
    session: Session, needs: IndexingNeeds, job: Job, keep: int | None
) -> None:
    needs.vectors.delete_other_versions(session, job.document_id, keep)
    segments.delete_other_versions(session, job.document_id, keep)


def _count(
    needs: IndexingNeeds,
    job: Job,
    totals: Totals,
    embedded: Sequence[EmbeddedPassage],
    stored: Stored,
) -> Batch:
    """The passages with their place and their words; before anything is sent."""
    first_position = totals.segments
    totals.segments += len(embedded)
    totals.texts += count_texts(embedded)
    totals.tokens += sum(one.tokens for one in embedded)
    totals.words += sum(one.words for one in embedded)
    for one in embedded:
        totals.contents.update(one.content_hash.encode())
    if job.has_vectors and not needs.keywords:
        return Batch(first_position, embedded, stored, None)
    batch = Batch(first_position, embedded, stored, words_of(job, embedded, stored))
    totals.keyword_segments = (totals.keyword_segments or 0) + sum(map(bool, batch.lengths))
    totals.keyword_words = (totals.keyword_words or 0) + sum(batch.lengths)
    return batch


def fingerprint_of(
    needs: IndexingNeeds, job: Job, totals: Totals, embedded: Sequence[EmbeddedPassage]
) -> str | None:
    """What made the version, as the document's row keeps it; ``embedded`` is its last batch."""
    dimension = job.embedding_dimension
    if job.has_vectors and dimension is None:
        lengths = (len(one.vector) for one in _texts(embedded) if one.vector is not None)
        dimension = next(lengths, None)
    sums = (totals.segments, totals.words, totals.tokens, totals.contents.hexdigest())
    return fingerprint(job, needs, job.version, dimension, sums)


def _texts(embedded: Sequence[EmbeddedPassage]) -> Iterator[EmbeddedPassage]:
    for one in embedded:
        yield from one.children or (one,)


def keep_rule(session: Session, job: Job) -> None:
    """Note which rule made the version."""
    row = insert(DocumentVersion).values(
        document_id=job.document_id, version=job.version, process_rule_id=job.rule_id
    )
    session.execute(
        row.on_conflict_do_update(
            index_elements=["document_id", "version"],
            set_={"process_rule_id": row.excluded.process_rule_id},
        )
    )


def count_texts(embedded: Sequence[EmbeddedPassage]) -> int:
    """How many texts were embedded: the passages, or their children."""
    return sum(
        len(one.children) or one.vector is not None or one.source is not None for one in embedded
    )


def _segments_left(session: Session, job: Job) -> tuple[int, int]:
    """How many there are, and how many of them are completed: edits may be pending."""
    completed = func.count().filter(DocumentSegment.status == COMPLETED)
    counted = select(func.count(), completed).where(DocumentSegment.document_id == job.document_id)
    number, done = session.execute(counted).one()
    return number, done
