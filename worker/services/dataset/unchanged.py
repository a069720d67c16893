"""A re-index that would make what is there already ends before it begins."""

from dataclasses import dataclass

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from shared.models import Document, DocumentStatus
from shared.sql import text_by_database
from worker.delivery.lease import Ago, release, renew
from worker.services.dataset import vector_batches
from worker.services.dataset.claiming import Job
from worker.services.dataset.fingerprints import fingerprint
from worker.services.dataset.needs import IndexingNeeds
from worker.services.dataset.stages import Stages

# Counted by the rows, not believed: whoever changed them behind our back gets them made anew.
_STANDING = text_by_database(
    """
    SELECT segments.number, segments.words, segments.tokens, segments.contents,
           segments.number = segments.completed AND keywords.number IS NOT DISTINCT FROM
               coalesce(document.keyword_segments, 0) AS is_whole,
           CASE WHEN document.doc_form = 'hierarchical_model' THEN children.number
                ELSE segments.number END AS vectors
    FROM documents AS document
    CROSS JOIN LATERAL (
        SELECT count(*) AS number, count(*) FILTER (WHERE status = 'completed') AS completed,
               coalesce(sum(word_count), 0) AS words, coalesce(sum(tokens), 0) AS tokens,
               encode(sha256(convert_to(
                   coalesce(string_agg(index_node_hash, '' ORDER BY position), ''), 'UTF8'
               )), 'hex') AS contents
        FROM document_segments
        WHERE document_id = document.id AND version = document.active_version
    ) AS segments
    CROSS JOIN LATERAL (
        SELECT count(*) AS number FROM segment_keywords
        WHERE document_id = document.id AND version = document.active_version
    ) AS keywords
    CROSS JOIN LATERAL (
        SELECT count(*) AS number FROM child_chunks
        WHERE document_id = document.id AND version = document.active_version
    ) AS children
    WHERE document.id = :document_id
""",
    mariadb="""
    SELECT segments.number, segments.words, segments.tokens, segments.contents,
           segments.number = segments.completed AND keywords.number <=>
               COALESCE(document.keyword_segments, 0) AS is_whole,
           CASE WHEN document.doc_form = 'hierarchical_model' THEN children.number
                ELSE segments.number END AS vectors
    FROM documents AS document
    CROSS JOIN (
        SELECT COUNT(*) AS number, COUNT(CASE WHEN segment.status = 'completed' THEN 1 END)
                   AS completed,
               COALESCE(SUM(segment.word_count), 0) AS words,
               COALESCE(SUM(segment.tokens), 0) AS tokens,
               SHA2(COALESCE(GROUP_CONCAT(
                   segment.index_node_hash ORDER BY segment.position SEPARATOR ''
               ), ''), 256) AS contents
        FROM document_segments AS segment JOIN documents AS shown
            ON shown.id = segment.document_id AND shown.active_version = segment.version
        WHERE shown.id = :document_id
    ) AS segments
    CROSS JOIN (
        SELECT COUNT(*) AS number FROM segment_keywords AS word JOIN documents AS shown
            ON shown.id = word.document_id AND shown.active_version = word.version
        WHERE shown.id = :document_id
    ) AS keywords
    CROSS JOIN (
        SELECT COUNT(*) AS number FROM child_chunks AS child JOIN documents AS shown
            ON shown.id = child.document_id AND shown.active_version = child.version
        WHERE shown.id = :document_id
    ) AS children
    WHERE document.id = :document_id
""",
)
# A re-index shows again what was hidden by hand, whether it makes the segments anew or not.
_SHOW = text("""
    UPDATE document_segments SET enabled = true
    WHERE dataset_id = :dataset_id AND document_id = :document_id AND version = :version
      AND NOT enabled
""")


@dataclass(frozen=True, slots=True)
class Standing:
    """The version that serves, and goes on serving."""

    segments: int
    words: int
    tokens: int


def standing(job: Job, needs: IndexingNeeds) -> Standing | None:
    """The version that serves, if it is whole and a run would make the same.

    Raises:
        ServiceUnavailable: (transient) an external vector store does not answer.
    """
    if job.fingerprint is None or job.active_version is None:
        return None
    with needs.sessions() as session:
        row = session.execute(_STANDING, {"document_id": job.document_id}).one_or_none()
        if row is None or not row.is_whole:
            return None
        sums = (row.number, int(row.words), int(row.tokens), row.contents)
        dimension = job.embedding_dimension
        if job.fingerprint != fingerprint(job, needs, job.active_version, dimension, sums):
            return None
        if job.has_vectors and row.vectors != needs.vectors.at(job.vector_store).count(
            session, job.document_id, job.active_version, job.generation
        ):
            return None
    return Standing(*sums[:3])


def keep_serving(session: Session, job: Job, stages: Stages, unchanged: Standing) -> bool:
    """End the run with the version that serves, in the caller's transaction.

    The number of the version that was to be made is given back.

    Returns:
        False when somebody has changed a segment since it was looked at: then it is to be made.

    Raises:
        LeaseLost: another worker has the document; nothing is written.
        IndexReplaced: (transient) the dataset has another index meanwhile; nothing is written.
    """
    # First the lease: its row lock holds off a new owner, and every edit, until this commits.
    renew(session, job.lease)
    now = select(Document.fingerprint).where(Document.id == job.document_id)
    if session.scalar(now) != job.fingerprint:
        return False
    for stage in (DocumentStatus.PARSING, DocumentStatus.CLEANING, DocumentStatus.SPLITTING):
        stages.over(stage)
    stages.reach(DocumentStatus.INDEXING)
    release(
        session,
        job.lease,
        indexing_status=DocumentStatus.COMPLETED,
        index_version=job.active_version,
        error=None,
        attempts=0,
        deaths=0,
        completed_at=Ago(),
        indexing_latency=stages.seconds,
        total_segments=unchanged.segments,
        completed_segments=unchanged.segments,
        **stages.columns(),
    )
    vector_batches.require_same_index(session, job)
    values = {"dataset_id": job.dataset_id, "document_id": job.document_id}
    session.execute(_SHOW, {**values, "version": job.active_version})
    return True
