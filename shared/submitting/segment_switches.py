"""Segments are enabled, disabled and deleted: at once for search, whatever else they are."""

from collections.abc import Sequence
from uuid import UUID, uuid5

from celery import Celery
from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from shared.contract import (
    DELETE_SEGMENT,
    DISABLE_SEGMENT,
    DISABLE_SEGMENTS,
    ENABLE_SEGMENT,
    ENABLE_SEGMENTS,
    TaskContract,
)
from shared.errors import DocumentIndexingInProgress
from shared.models import Dataset, Document, DocumentSegment
from shared.models.vector import keeps_vectors
from shared.queueing import outbox
from shared.submitting.ids import AnyId
from shared.submitting.segment_counters import Difference, add_to_counters
from shared.submitting.segment_documents import (
    lock_documents_of,
    require_editable,
    require_settled,
)

# Edits first: who writes a segment takes their locks in this order.
_FORGET_EDITS = text("DELETE FROM segment_edits WHERE segment_id = ANY(CAST(:ids AS uuid[]))")
_DELETE_KEYWORDS = text("""
    WITH gone AS (
        DELETE FROM segment_keywords
        WHERE document_id = :document_id AND segment_id = ANY(CAST(:ids AS uuid[]))
        RETURNING length
    )
    SELECT count(*) AS segments, coalesce(sum(length), 0) AS words FROM gone
""")
_DELETE_CHILDREN = text("""
    DELETE FROM child_chunks
    WHERE document_id = :document_id AND segment_id = ANY(CAST(:ids AS uuid[]))
    RETURNING id
""")
_DELETE_VECTORS = text("""
    DELETE FROM segment_vectors
    WHERE document_id = :document_id AND id = ANY(CAST(:ids AS uuid[]))
""")
# The same in a store outside of the database: they count no longer, and are collected.
_OUTDATE_POINTS = text("""
    UPDATE vector_points SET is_current = false
    WHERE vector_id = ANY(CAST(:ids AS uuid[])) AND is_current
""")
_NOTE_OUTDATED = text("""
    INSERT INTO vector_points (vector_id, write_id, is_current)
    SELECT u.vector_id, w.id, false
    FROM vector_writes AS w CROSS JOIN unnest(CAST(:ids AS uuid[])) AS u(vector_id)
    WHERE w.document_id = :document_id AND w.is_live AND w.is_whole
    ON CONFLICT (vector_id, write_id) DO NOTHING
""")
# A part that is done is planned again, one that is at work loses its lease and starts over.
_OUTDATE_BUILDS = text("""
    UPDATE index_build_documents AS part
    SET version = NULL,
        message_id = CASE WHEN part.status = 'waiting' THEN NULL ELSE part.message_id END,
        lease_token = part.lease_token + 1, lease_expires_at = NULL, lease_owner = NULL
    FROM dataset_index_builds AS build
    WHERE build.dataset_id = :dataset_id AND build.status = 'running'
      AND part.build_id = build.id AND part.document_id = :document_id
    RETURNING build.generation
""")
_DELETE_SEGMENTS = text("""
    WITH gone AS (
        DELETE FROM document_segments
        WHERE document_id = :document_id AND id = ANY(CAST(:ids AS uuid[]))
        RETURNING id, word_count, tokens, status
    )
    SELECT coalesce(array_agg(id), '{}') AS ids, count(*) AS total,
           count(*) FILTER (WHERE status = 'completed') AS completed,
           coalesce(sum(word_count), 0) AS words, coalesce(sum(tokens), 0) AS tokens
    FROM gone
""")


def enable_segments(
    session: Session, segment_ids: Sequence[AnyId], *, celery: Celery | None = None
) -> list[UUID]:
    """Let search see segments again; what failed to be indexed is tried again.

    Args:
        session: the caller's transaction.
        segment_ids: which; up to 1,000.
        celery: publishes right after the commit; without it a worker's relay does.

    Returns:
        Those that were disabled.

    Raises:
        NotFound: one of them does not exist.
        DocumentIndexingInProgress: a document of theirs is being indexed.
        InvalidRequest: a document is archived, disabled or paused, they are too many, or an
            id is none.
    """
    owners = lock_documents_of(session, segment_ids)
    for document, _ in owners.values():
        require_editable(document)
    return _switch(session, owners, celery, is_enabled=True)


def disable_segments(
    session: Session, segment_ids: Sequence[AnyId], *, celery: Celery | None = None
) -> list[UUID]:
    """Hide segments from search, at once.

    Args:
        session: the caller's transaction.
        segment_ids: which; up to 1,000.
        celery: publishes right after the commit; without it a worker's relay does.

    Returns:
        Those that were enabled.

    Raises:
        NotFound: one of them does not exist.
        DocumentIndexingInProgress: a document of theirs is being indexed: in the new version
            they would be enabled again.
        InvalidRequest: a document is paused, they are too many, or an id is none.
    """
    owners = lock_documents_of(session, segment_ids)
    for document, _ in owners.values():
        require_settled(document)
    return _switch(session, owners, celery, is_enabled=False)


def delete_segments(
    session: Session, segment_ids: Sequence[AnyId], *, celery: Celery | None = None
) -> list[UUID]:
    """Delete segments with all that belongs to them: enabled or not, finished or not.

    Args:
        session: the caller's transaction.
        segment_ids: which; up to 1,000.
        celery: publishes right after the commit; without it a worker's relay does.

    Returns:
        Those that were deleted.

    Raises:
        NotFound: one of them does not exist.
        DocumentIndexingInProgress: one is of the version that is being made at the moment.
        InvalidRequest: they are too many, or an id is none.
    """
    owners = lock_documents_of(session, segment_ids)
    deleted: list[UUID] = []
    for document, ids in owners.values():
        _require_served(session, document, ids)
        deleted += remove_segments(session, document.id, ids)
        _announce(session, DELETE_SEGMENT, document, ids, celery)
    return deleted


def remove_segments(session: Session, document_id: UUID, ids: Sequence[UUID]) -> list[UUID]:
    """Delete segments of a document whose row is locked, and what is left of such ones.

    Returns:
        Those whose rows were there.
    """
    values = {"document_id": document_id, "ids": [str(one) for one in ids]}
    session.execute(_FORGET_EDITS, values)
    children = session.scalars(_DELETE_CHILDREN, values).all()
    remove_vectors(session, document_id, [*ids, *children])
    words = session.execute(_DELETE_KEYWORDS, values).one()
    gone = session.execute(_DELETE_SEGMENTS, values).one()
    difference = Difference(
        total=-gone.total,
        completed=-gone.completed,
        words=-int(gone.words),
        tokens=-int(gone.tokens),
        keyword_segments=-words.segments,
        keyword_words=-int(words.words),
    )
    if difference != Difference():
        add_to_counters(session, document_id, difference)
    return list(gone.ids)


def remove_vectors(session: Session, document_id: UUID, ids: Sequence[UUID]) -> None:
    """Delete vectors of segments or children from the index in use, and the one being made.

    Those in a store outside of the database count no longer, and are collected.
    """
    generations = outdate_builds(session, document_id)
    named = [str(one) for one in ids]
    # In an index that is not a dataset's first, vectors have ids of their own.
    named += [str(uuid5(one, str(number))) for one in ids for number in generations]
    if keeps_vectors(session.connection()):
        session.execute(_DELETE_VECTORS, {"document_id": document_id, "ids": named})
    values = {"document_id": document_id, "ids": [str(one) for one in ids]}
    session.execute(_OUTDATE_POINTS, values)
    session.execute(_NOTE_OUTDATED, values)


def outdate_builds(session: Session, document_id: UUID) -> list[int]:
    """Let an index that is being made read the document's segments again before it serves.

    The dataset is locked first, against the switch to that index, which so knows of it.

    Returns:
        The numbers of the indexes that hold vectors of the document.
    """
    dataset = session.execute(
        select(Dataset.id, Dataset.index_generation)
        .join(Document, Document.dataset_id == Dataset.id)
        .where(Document.id == document_id)
        .with_for_update(read=True, key_share=True, of=Dataset)
    ).one_or_none()
    if dataset is None:
        return []
    values = {"document_id": document_id, "dataset_id": dataset.id}
    built = session.scalars(_OUTDATE_BUILDS, values).all()
    return [dataset.index_generation, *built]


def _switch(
    session: Session,
    owners: dict[UUID, tuple[Document, list[UUID]]],
    celery: Celery | None,
    *,
    is_enabled: bool,
) -> list[UUID]:
    one, several = (
        (ENABLE_SEGMENT, ENABLE_SEGMENTS) if is_enabled else (DISABLE_SEGMENT, DISABLE_SEGMENTS)
    )
    changed: list[UUID] = []
    for document, ids in owners.values():
        statement = (
            update(DocumentSegment)
            .where(DocumentSegment.id.in_(ids), DocumentSegment.enabled.is_not(is_enabled))
            .values(enabled=is_enabled)
            .returning(DocumentSegment.id)
        )
        changed += session.connection().scalars(statement)
        _announce(session, one if len(ids) == 1 else several, document, ids, celery)
    session.expire_all()
    return changed


def _require_served(session: Session, document: Document, ids: Sequence[UUID]) -> None:
    segments = session.query(DocumentSegment).filter(
        DocumentSegment.id.in_(ids),
        DocumentSegment.version.is_distinct_from(document.active_version),
    )
    if session.query(segments.exists()).scalar():
        raise DocumentIndexingInProgress(
            f"{document.name} is being indexed, and has not these segments yet: "
            "wait for it to finish, then ask again"
        )


def _announce(
    session: Session,
    contract: TaskContract,
    document: Document,
    ids: Sequence[UUID],
    celery: Celery | None,
) -> None:
    texts = [str(one) for one in ids]
    about = [str(document.dataset_id), str(document.id)]
    args = [texts[0]] if contract.ids == ("segment_id",) else [texts, *about]
    outbox.write(session, contract.name, args, celery=celery, tenant_id=document.tenant_id)
