"""How the run of a document ends; those of a message end together, as each costs a transaction."""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from shared.errors import ConfigurationError, IndexReplaced, LeaseLost, Permanent
from shared.models import Dataset, DocumentStatus
from worker.delivery.leased_run import run_leased
from worker.services.dataset import activation, keywords, segments, vector_batches
from worker.services.dataset.activation import Totals
from worker.services.dataset.batch_rows import Batch, Stored
from worker.services.dataset.claiming import Job
from worker.services.dataset.embedding import EmbeddedPassage
from worker.services.dataset.needs import IndexingNeeds
from worker.services.dataset.stages import COMPLETED_COLUMNS, Stages
from worker.services.dataset.words import WordCounts
from worker.stores import binary_copy

logger = logging.getLogger(__name__)

# Locked in their order first: two that want the same documents wait for each other in turn.
_END = text("""
    SELECT 1 FROM documents WHERE id = ANY(CAST(:ids AS uuid[])) ORDER BY id FOR NO KEY UPDATE;
    UPDATE documents
    SET indexing_status = 'completed', active_version = u.version, fingerprint = u.fingerprint,
        lease_expires_at = NULL, lease_owner = NULL, error = NULL, attempts = 0, deaths = 0,
        completed_at = statement_timestamp(), indexing_latency = u.latency,
        parsing_completed_at = coalesce(
            statement_timestamp() - make_interval(secs => u.parsing), parsing_completed_at
        ),
        cleaning_completed_at = coalesce(
            statement_timestamp() - make_interval(secs => u.cleaning), cleaning_completed_at
        ),
        splitting_completed_at = coalesce(
            statement_timestamp() - make_interval(secs => u.splitting), splitting_completed_at
        ),
        word_count = u.words, tokens = u.tokens, total_segments = u.segments,
        completed_segments = u.segments, keyword_segments = u.keyword_segments,
        keyword_words = u.keyword_words
    FROM unnest(
        CAST(:ids AS uuid[]), CAST(:lease_tokens AS bigint[]), CAST(:versions AS int[]),
        CAST(:fingerprints AS text[]), CAST(:latencies AS float8[]), CAST(:parsing AS float8[]),
        CAST(:cleaning AS float8[]), CAST(:splitting AS float8[]), CAST(:words AS bigint[]),
        CAST(:tokens AS bigint[]), CAST(:segments AS int[]), CAST(:keyword_segments AS int[]),
        CAST(:keyword_words AS bigint[])
    ) AS u(id, lease_token, version, fingerprint, latency, parsing, cleaning, splitting, words,
           tokens, segments, keyword_segments, keyword_words)
    WHERE documents.id = u.id AND documents.lease_token = u.lease_token
    RETURNING documents.id
""")


@dataclass(frozen=True, slots=True)
class Finished:
    """A run that has only its end left to write: all its segments are in one batch."""

    job: Job
    stages: Stages
    totals: Totals
    batch: Batch


@dataclass(frozen=True, slots=True)
class Ends:
    """How a document says that its run did not get to its end."""

    job: Job
    needs: IndexingNeeds

    def hand_back(self, error: Exception) -> None:
        """Free it for its next delivery."""
        activation.hand_back(self.needs, self.job, error)

    def fail(self, error: Permanent | ConfigurationError) -> None:
        """End it for good, with the reason."""
        activation.fail(self.needs, self.job, str(error))


class EndsTogether:
    """Collects runs that have only their end left, and writes these in one transaction.

    Their leases are kept until then. A process that dies before it leaves them as one that dies
    in the middle of a run: nothing of them is written, and each is begun over by itself.
    """

    def __init__(self, needs: IndexingNeeds) -> None:
        self._needs = needs
        self._leases = ExitStack()
        self._finished: list[Finished] = []
        #: Of the dataset that the documents are all of, once it was looked up.
        self._dimension: int | None = None

    @property
    def is_full(self) -> bool:
        """Whether as many segments wait as one long document would have in memory."""
        waiting = sum(one.totals.segments for one in self._finished)
        return waiting >= self._needs.batch_segments

    def has(self, job: Job) -> bool:
        """Whether the run of this job waits here for its end."""
        return any(one.job is job for one in self._finished)

    def takes(self, job: Job, embedded: Sequence[EmbeddedPassage], stored: Stored) -> bool:
        """Whether the only batch of a document is one to be written with others'.

        Not what replaces a version or learns the dataset's dimension, nor what has children or
        vectors elsewhere: that is more than rows. Nor one that the death of this worker, over
        another document, would end for good.
        """
        return (
            job.has_vectors
            and job.active_version is None
            and job.lease.deaths + 1 < self._needs.max_deaths
            and not stored
            and not self._needs.vectors.at(job.vector_store).is_external
            and all(one.vector is not None and not one.children for one in embedded)
            and (job.embedding_dimension is not None or self._is_known_meanwhile(job, embedded))
        )

    def _is_known_meanwhile(self, job: Job, embedded: Sequence[EmbeddedPassage]) -> bool:
        """Whether another document has told the dataset its dimension since this one was claimed.

        All that workers begin at the same time in a new dataset is claimed without one.
        """
        if self._dimension is None:
            query = select(Dataset.embedding_dimension).where(
                Dataset.id == job.dataset_id,
                Dataset.vector_store == self._needs.vectors.at(job.vector_store).name,
            )
            with self._needs.sessions() as session:
                self._dimension = session.scalar(query)
        return {len(one.vector) for one in embedded if one.vector is not None} == {self._dimension}

    def add(self, finished: Finished) -> None:
        """Take a run over, with its lease."""
        kept = self._needs.heartbeat.keep(finished.job.lease, ends_run=False)
        self._leases.enter_context(kept)
        self._finished.append(finished)

    def drop(self, job: Job) -> None:
        """Forget a run that was stopped after all; its row says so already."""
        self._finished = [one for one in self._finished if one.job is not job]

    def write(self) -> list[Finished]:
        """Write the ends.

        Returns:
            Those that have to end alone, as one of them cannot be written.
        """
        finished, self._finished = self._finished, []
        with self._leases.pop_all():
            if len(finished) < 2:  # noqa: PLR2004 - together is two
                return finished
            try:
                with self._needs.sessions.begin() as session:
                    _write(session, self._needs, finished)
            except Exception as error:  # noqa: BLE001 - each meets it by itself, and says so
                logger.info("not ended together: %s", error, extra={"action": "indexing.apart"})
                return finished
            self._needs.progress.publish_all(
                (one.job.document_id, _shown(one.totals)) for one in finished
            )
            self._needs.guard.release_all(
                (one.job.document_id, one.job.version) for one in finished
            )
        return []


def end_alone(finished: Finished, needs: IndexingNeeds) -> None:
    """Write the end of one run.

    Raises:
        RagWorkerError: what ``index_document`` raises.
    """
    job = finished.job

    def write() -> None:
        with needs.sessions.begin() as session:
            activation.complete_counted(
                session, needs, job, finished.stages, finished.totals, finished.batch
            )
        report_end(needs, job, finished.totals)

    try:
        run_leased(write, job.lease, Ends(job, needs), heartbeat=needs.heartbeat)
    finally:
        needs.guard.release(job.document_id, job.version)


def report_end(needs: IndexingNeeds, job: Job, totals: Totals) -> None:
    """Tell live displays that a document is complete."""
    needs.progress.publish(job.document_id, **_shown(totals))


def _shown(totals: Totals) -> dict[str, Any]:
    return {
        "status": DocumentStatus.COMPLETED,
        "segments": totals.segments,
        "tokens": totals.tokens,
    }


def _write(session: Session, needs: IndexingNeeds, finished: Sequence[Finished]) -> None:
    # First the leases, as ``activation.complete`` does.
    ended = session.connection().execute(_END, _columns(needs, finished)).all()
    if len(ended) != len(finished):
        raise LeaseLost(f"of {len(finished)} documents only {len(ended)} are still ours")
    first = finished[0].job
    if any(one.job.generation != first.generation for one in finished):
        raise IndexReplaced
    vector_batches.require_same_index(session, first)
    ids = [vector_batches.segment_ids(one.job, 0, one.batch.embedded) for one in finished]
    numbered = list(zip(finished, ids, strict=True))
    written = [segments.Written(one.job.owner, its, one.batch.embedded) for one, its in numbered]
    words = [(one.job.owner, its, _counts(one.batch)) for one, its in numbered if one.batch.words]
    if binary_copy.is_possible(session):
        # Should one of the rows be there already, each ends alone, and replaces it.
        segments.copy_several(session, written)
        keywords.copy_several(session, words)
    else:
        segments.write_several(session, written)
        keywords.write_several(session, words)
    needs.vectors.at(first.vector_store).upsert(
        session,
        *(vector_batches.vectors_of(one.job, its, one.batch.embedded, ()) for one, its in numbered),
    )
    for one in finished:
        if one.job.rule_id is not None:
            activation.keep_rule(session, one.job)


def _counts(batch: Batch) -> list[WordCounts]:
    return [one for one in batch.words or () if isinstance(one, WordCounts)]


def _columns(needs: IndexingNeeds, finished: Sequence[Finished]) -> dict[str, list[Any]]:
    totals = [one.totals for one in finished]
    return {
        "ids": [str(one.job.document_id) for one in finished],
        "lease_tokens": [one.job.lease.token for one in finished],
        "versions": [one.job.version for one in finished],
        "fingerprints": [
            activation.fingerprint_of(needs, one.job, one.totals, one.batch.embedded)
            for one in finished
        ],
        "latencies": [one.stages.seconds for one in finished],
        "parsing": _ended_ago(finished, DocumentStatus.PARSING),
        "cleaning": _ended_ago(finished, DocumentStatus.CLEANING),
        "splitting": _ended_ago(finished, DocumentStatus.SPLITTING),
        "words": [one.words for one in totals],
        "tokens": [one.tokens for one in totals],
        "segments": [one.segments for one in totals],
        "keyword_segments": [one.keyword_segments for one in totals],
        "keyword_words": [one.keyword_words for one in totals],
    }


def _ended_ago(finished: Sequence[Finished], stage: DocumentStatus) -> list[float | None]:
    moments = [one.stages.columns().get(COMPLETED_COLUMNS[stage]) for one in finished]
    return [None if moment is None else moment.seconds for moment in moments]
