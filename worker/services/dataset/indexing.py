"""The indexing run: a document becomes searchable in a new version, then search switches to it."""

import logging
from functools import partial
from uuid import UUID

from shared.errors import LimitExceeded, Permanent
from shared.models import DocumentStatus
from shared.queueing import task_context
from worker.delivery import runs
from worker.delivery.leased_run import require_attempts_left, run_leased
from worker.providers.embedder import Embedder
from worker.services.dataset import activation, unchanged, vector_batches
from worker.services.dataset.activation import Totals
from worker.services.dataset.claiming import Job, claim_document
from worker.services.dataset.document_ends import Ends, EndsTogether, Finished, report_end
from worker.services.dataset.economy import NoEmbedder
from worker.services.dataset.forms import FormReader
from worker.services.dataset.needs import IndexingNeeds
from worker.services.dataset.plans import plan_of
from worker.services.dataset.serving import Serving
from worker.services.dataset.stages import Stages

logger = logging.getLogger(__name__)


def index_document(
    document_id: UUID, dataset_id: UUID, needs: IndexingNeeds, ends: EndsTogether | None = None
) -> Totals:
    """Make a document searchable in its newest version, then switch search to it.

    Where nothing has changed since the version that serves, that one goes on serving, and the
    file is not even read. Blocks stream in and batches stream out: peak memory follows
    ``needs.batch_segments``, not the size of the file. Delivered twice it does
    nothing the second time. Whatever stops it, the old version goes on serving.
    A small one is complete only when ``ends`` have been written, where there are any.

    Raises:
        SubjectGone: (superseded) the document was deleted, or is not of this dataset.
        LeaseLost: (superseded) another worker took it over.
        LeaseHeld: (superseded) another worker has it now.
        UnreadableFile: (permanent) and its kin; written to the row's ``error``.
        UnexpectedFailure: (permanent) a defect; likewise.
    """
    with needs.sessions.begin() as session:
        job = claim_document(session, document_id, dataset_id, needs.lease_seconds)
    return Totals() if job is None else index_claimed(job, needs, ends)


def index_claimed(job: Job, needs: IndexingNeeds, ends: EndsTogether | None = None) -> Totals:
    """As ``index_document``, of one that is claimed."""
    run = partial(_run, job, needs, ends)
    with task_context.about(job.document_id, job.tenant_id):
        try:
            return run_leased(run, job.lease, Ends(job, needs), heartbeat=needs.heartbeat)
        except BaseException:
            if ends is not None:
                ends.drop(job)
            raise
        finally:
            if ends is None or not ends.has(job):
                needs.guard.release(job.document_id, job.version)


def _run(job: Job, needs: IndexingNeeds, ends: EndsTogether | None) -> Totals:
    runs.checkpoint()
    require_attempts_left(
        job.lease,
        "this document",
        max_attempts=needs.max_attempts,
        max_deaths=needs.max_deaths,
        last_error=job.last_error,
        way_out="index it again to start over",
    )
    activation.forget_earlier_attempts(needs, job)
    stages, totals = Stages(), Totals()
    if _is_unchanged(job, needs, stages):
        return totals
    embedder = embedder_of(job, needs)
    reader = FormReader(job, plan_of(job), embedder, stages, needs)
    serving = Serving(needs, job)
    with needs.files.open(job.storage_key) as file:
        batches = reader.batches(file)
        batch = next(batches, None)
        while batch:
            runs.checkpoint()
            stages.reach(DocumentStatus.INDEXING)
            embedded = reader.embed(batch, serving.known)
            stored = serving.stored(embedded)
            require_dimension(job, embedder)
            _require_room(job, needs, totals.texts + activation.count_texts(embedded))
            # The next batch is taken before this one is written: the last one commits with
            # the switch, so that a small document costs one transaction.
            batch = next(batches, None)
            is_only = not batch and not totals.segments
            if is_only and ends and ends.takes(job, embedded, stored):
                last = activation.last_batch(needs, job, stages, totals, embedded)
                ends.add(Finished(job, stages, totals, last))
                return totals
            store = needs.vectors.at(job.vector_store)
            vector_batches.send(store, job, totals.segments, embedded)
            with needs.sessions.begin() as session:
                if batch:
                    activation.write_batch(session, needs, job, stages, totals, embedded, stored)
                else:
                    activation.complete(session, needs, job, stages, totals, embedded, stored)
            _report(job, needs, stages, totals, is_last=not batch)
    return totals


def _is_unchanged(job: Job, needs: IndexingNeeds, stages: Stages) -> bool:
    """Whether the version that serves is what a run would make; the run has ended then."""
    same = unchanged.standing(job, needs)
    if same is None:
        return False
    with needs.sessions.begin() as session:
        if not unchanged.keep_serving(session, job, stages, same):
            return False
    logger.info("%s is unchanged", job.document_id, extra={"action": "indexing.unchanged"})
    _report(job, needs, stages, Totals(same.segments, tokens=same.tokens), is_last=True)
    return True


def embedder_of(job: Job, needs: IndexingNeeds) -> Embedder:
    """The embedder of a document's dataset.

    Raises:
        Permanent: its vectors are of another dimension than the dataset's.
        ConfigurationError: no such provider or model.
    """
    if not job.has_vectors:
        return NoEmbedder()
    embedder = needs.embedders(job.embedding_provider, job.embedding_model)
    require_dimension(job, embedder)
    return embedder


def require_dimension(job: Job, embedder: Embedder) -> None:
    """Check it before work is begun, and again when a remote model has shown it.

    Raises:
        Permanent: the model makes other vectors than the dataset holds.
    """
    if not embedder.dimension or job.embedding_dimension in {None, embedder.dimension}:
        return
    raise Permanent(
        f"{embedder.model} makes vectors of {embedder.dimension} dimensions, the dataset "
        f"holds {job.embedding_dimension}: rebuild the dataset's index with this model"
    )


def _require_room(job: Job, needs: IndexingNeeds, texts: int) -> None:
    if texts > needs.max_segments:
        raise LimitExceeded(
            f"{job.name} becomes more than {needs.max_segments:,} segments: "
            "split the file, or raise INDEXING_MAX_SEGMENTS"
        )


def _report(
    job: Job, needs: IndexingNeeds, stages: Stages, totals: Totals, *, is_last: bool
) -> None:
    if is_last:
        report_end(needs, job, totals)
        return
    needs.guard.refresh(job.document_id, job.version)
    needs.progress.publish(
        job.document_id,
        status=stages.status,
        segments=totals.segments,
        tokens=totals.tokens,
    )
