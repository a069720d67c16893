"""Which documents have a part in a change of the index, and the messages about them."""

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select, text
from sqlalchemy.orm import Session

from shared.contract import BUILD_DATASET_INDEX
from shared.models import IndexBuildDocument
from worker.services.dataset.index_needs import Build, IndexNeeds, Publish

#: A message's most documents, and segments of theirs; one document may have more.
_GROUP_DOCUMENTS = 16
_GROUP_SEGMENTS = 1000
#: Parts announced in one transaction.
_BATCH = 2000

# Every document that search can see, but those whose newest version is done: what was
# indexed since the last look is found by it too.
_PLAN = text("""
    INSERT INTO index_build_documents (id, build_id, document_id)
    SELECT gen_random_uuid(), :build_id, document.id
    FROM documents AS document
    WHERE document.dataset_id = :dataset_id AND document.active_version IS NOT NULL
      AND (:has_vectors OR document.keyword_segments IS NULL)
      AND NOT EXISTS (
          SELECT 1 FROM index_build_documents AS part
          WHERE part.build_id = :build_id AND part.document_id = document.id
            AND (part.version = document.active_version OR part.status <> 'completed')
      )
    FOR KEY SHARE OF document -- one that is being deleted is waited for, and left out
    ON CONFLICT (build_id, document_id) DO UPDATE
        SET status = 'waiting', version = NULL, message_id = NULL
        WHERE index_build_documents.status = 'completed'
    RETURNING id
""")
_UNANNOUNCED = text("""
    SELECT part.id, part.document_id, coalesce(document.total_segments, 0) AS segments
    FROM index_build_documents AS part
    LEFT JOIN documents AS document ON document.id = part.document_id
    WHERE part.build_id = :build_id AND part.status = 'waiting' AND part.message_id IS NULL
    ORDER BY part.document_id
    LIMIT :batch
    FOR UPDATE OF part SKIP LOCKED
""")
_ANNOUNCED = text("""
    UPDATE index_build_documents
    SET message_id = announced.message_id, queued_at = statement_timestamp()
    FROM unnest(CAST(:ids AS uuid[]), CAST(:message_ids AS uuid[])) AS announced(id, message_id)
    WHERE index_build_documents.id = announced.id
""")


def plan(session: Session, build: Build) -> int:
    """Give each document that lacks one its part, in the caller's transaction.

    Returns:
        How many parts are to be announced now.
    """
    values = {
        "build_id": build.id,
        "dataset_id": build.dataset_id,
        "has_vectors": build.has_vectors,
    }
    return len(session.execute(_PLAN, values).all())


def announce_parts(build: Build, needs: IndexNeeds) -> int:
    """Send out the parts that no message is about, to all workers; returns how many."""
    announced = 0
    while True:
        with needs.sessions.begin() as session:
            found = session.execute(_UNANNOUNCED, {"build_id": build.id, "batch": _BATCH}).all()
            for group in _groups(found):
                _announce(session, build, group, needs.publish)
        announced += len(found)
        if len(found) < _BATCH:
            return announced


def parts_of(session: Session, build_id: UUID, documents: Sequence[UUID]) -> dict[UUID, UUID]:
    """The ids of documents' parts in a build, those that exist, by document."""
    query = select(IndexBuildDocument.document_id, IndexBuildDocument.id).where(
        IndexBuildDocument.build_id == build_id, IndexBuildDocument.document_id.in_(documents)
    )
    return {row.document_id: row.id for row in session.execute(query)}


def announce_alone(
    session: Session,
    build: Build,
    part_id: UUID,
    document_id: UUID,
    needs: IndexNeeds,
    delay_seconds: float = 0.0,
) -> None:
    """Send out one part by itself, in the caller's transaction."""
    _send(session, build, [part_id], [document_id], needs.publish, delay_seconds)


def _groups(rows: Sequence[Row[Any]]) -> Iterator[list[Row[Any]]]:
    group: list[Row[Any]] = []
    segments = 0
    for row in rows:
        if group and (len(group) == _GROUP_DOCUMENTS or segments + row.segments > _GROUP_SEGMENTS):
            yield group
            group, segments = [], 0
        group.append(row)
        segments += row.segments
    if group:
        yield group


def _announce(session: Session, build: Build, group: Sequence[Row[Any]], publish: Publish) -> None:
    ids = [row.id for row in group]
    _send(session, build, ids, [row.document_id for row in group], publish, 0.0)


def _send(
    session: Session,
    build: Build,
    part_ids: Sequence[UUID],
    document_ids: Sequence[UUID],
    publish: Publish,
    delay_seconds: float,
) -> None:
    arguments = [str(build.dataset_id), str(build.id), [str(one) for one in document_ids]]
    message = publish(session, BUILD_DATASET_INDEX.name, arguments, delay_seconds=delay_seconds)
    values = {"ids": list(map(str, part_ids)), "message_ids": [str(message)] * len(part_ids)}
    session.execute(_ANNOUNCED, values)
