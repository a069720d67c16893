"""The ledger of an external vector store: which claims wrote to it, and which of that counts."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid5

from sqlalchemy import Row, bindparam, select, text
from sqlalchemy.orm import Session

from shared.models import ChildChunk, Document, DocumentSegment, VectorWrite
from worker.stores import vector_points
from worker.stores.vectors import Hit, VectorPlace

#: The namespace of write ids.
_NAMESPACE = UUID("b6a1d7f0-3f0e-5c55-8e52-4f1f6a0f7d11")

_NOTE = text("""
    INSERT INTO vector_writes (
        id, dataset_id, document_id, version, generation, dimension, holder_id, token, is_whole
    )
    SELECT :id, :dataset_id, documents.id, :version, :generation, :dimension, :holder_id, :token,
           :is_whole
    -- With no document left there is no row to refer to, but still something to collect.
    FROM (SELECT) AS one LEFT JOIN documents ON documents.id = :document_id
    -- Collected already, because the lease was lost meanwhile: it is collected again.
    ON CONFLICT (id) DO UPDATE SET swept_at = NULL WHERE vector_writes.swept_at IS NOT NULL
""")

# While the holder's lease runs, or has run out and nobody took over, its writing may still count.
_UNUSED = text("""
    SELECT w.id, w.dimension, w.swept_at IS NOT NULL AS is_second
    FROM vector_writes AS w
    WHERE (NOT w.is_live OR w.document_id IS NULL)
      AND (w.swept_at IS NULL OR w.swept_at < now() - make_interval(secs => :again_seconds))
      AND (w.document_id IS NULL OR NOT EXISTS (
          SELECT 1 FROM documents AS holder
          WHERE holder.id = w.holder_id AND holder.lease_token = w.token
            AND holder.lease_expires_at IS NOT NULL
          UNION ALL
          SELECT 1 FROM index_build_documents AS holder
          WHERE holder.id = w.holder_id AND holder.lease_token = w.token
            AND holder.lease_expires_at IS NOT NULL
          UNION ALL
          SELECT 1 FROM segment_edits AS holder
          WHERE holder.id = w.holder_id AND holder.lease_token = w.token
            AND holder.lease_expires_at IS NOT NULL
          UNION ALL
          SELECT 1 FROM segment_imports AS holder
          WHERE holder.id = w.holder_id AND holder.lease_token = w.token
            AND holder.lease_expires_at IS NOT NULL
      ))
    ORDER BY w.swept_at NULLS FIRST, w.id
    LIMIT :limit
""")
_SWEPT = text("""
    UPDATE vector_writes SET swept_at = now() WHERE id = ANY(CAST(:ids AS uuid[]))
""")
_FORGET = text("DELETE FROM vector_writes WHERE id = ANY(CAST(:ids AS uuid[]))")

_SERVE = text("UPDATE vector_writes SET is_live = true WHERE id = :id AND NOT is_live")
# An index that was being made, and was begun anew after an edit, has been written twice.
_RETIRE_SAME = text("""
    UPDATE vector_writes SET is_live = false
    WHERE document_id = :document_id AND version = :version AND generation = :generation
      AND is_live AND id <> :id
""")
_RETIRE_VERSIONS = text("""
    UPDATE vector_writes SET is_live = false
    WHERE document_id = :document_id AND version IS DISTINCT FROM :keep AND is_live
""")
_RETIRE_GENERATIONS = text("""
    UPDATE vector_writes SET is_live = false
    WHERE document_id = ANY(CAST(:document_ids AS uuid[])) AND generation <> ALL(:keep) AND is_live
""")


@dataclass(frozen=True, slots=True)
class Standing:
    """What has become of hits.

    Attributes:
        matching: hits that search sees.
        counted: the writes and points that count, those of documents that search may not
            see, or was not asked about, and of disabled segments included.
        gone: those that do not.
    """

    matching: Sequence[Hit]
    counted: frozenset[UUID]
    gone: frozenset[UUID]


_STANDING = (
    select(VectorWrite.id, Document.id, Document.enabled & ~Document.archived)
    .join(Document, Document.id == VectorWrite.document_id)
    .where(
        VectorWrite.id.in_(bindparam("ids", expanding=True)),
        VectorWrite.is_live,
        Document.active_version == VectorWrite.version,
    )
)
_LIVE = select(VectorWrite.id, VectorWrite.dimension).where(
    VectorWrite.document_id == bindparam("document_id"),
    VectorWrite.version == bindparam("version"),
    VectorWrite.generation == bindparam("generation"),
    VectorWrite.is_live,
)
_SEGMENTS = select(DocumentSegment.id, DocumentSegment.enabled).where(
    DocumentSegment.id.in_(bindparam("ids", expanding=True))
)
_CHILDREN = (
    select(ChildChunk.id, DocumentSegment.enabled)
    .join(DocumentSegment, DocumentSegment.id == ChildChunk.segment_id)
    .where(ChildChunk.id.in_(bindparam("ids", expanding=True)))
)


def write_id(place: VectorPlace) -> UUID:
    """The id of what one claim writes."""
    return uuid5(_NAMESPACE, f"{place.holder_id}/{place.token}/{place.version}/{place.generation}")


def note(session: Session, place: VectorPlace, dimension: int) -> None:
    """Note, before the first vector, that a claim writes; again is harmless."""
    session.execute(
        _NOTE,
        {
            "id": write_id(place),
            "dataset_id": place.dataset_id,
            "document_id": place.document_id,
            "version": place.version,
            "generation": place.generation,
            "dimension": dimension,
            "holder_id": place.holder_id,
            "token": place.token,
            "is_whole": place.is_whole,
        },
    )


def activate(session: Session, place: VectorPlace) -> None:
    """Let search see a version's write, and no other, as far as it is the active one."""
    values = {
        "id": write_id(place),
        "document_id": place.document_id,
        "version": place.version,
        "generation": place.generation,
    }
    session.execute(_RETIRE_SAME, values)
    serve(session, place)


def serve(session: Session, place: VectorPlace) -> None:
    """Let search see a write, beside the others of its version."""
    session.execute(_SERVE, {"id": write_id(place)})


def retire_versions(session: Session, document_id: UUID, keep: int | None) -> None:
    """Let search no longer see a document's versions but ``keep``."""
    session.execute(_RETIRE_VERSIONS, {"document_id": document_id, "keep": keep})


def retire_generations(session: Session, document_ids: Sequence[UUID], keep: Sequence[int]) -> None:
    """Let nobody see documents' vectors of generations but ``keep``."""
    values = {"document_ids": list(map(str, document_ids)), "keep": list(keep)}
    session.execute(_RETIRE_GENERATIONS, values)


def standing(session: Session, hits: Sequence[Hit], documents: Sequence[UUID] | None) -> Standing:
    """Which of an external store's hits count; a few queries, however many there are."""
    writes = {"ids": list({hit.write_id for hit in hits})}
    rows = session.execute(_STANDING, writes).all()
    wanted = None if documents is None else set(documents)
    live = {row[0] for row in rows}
    seen = {
        write
        for write, document, is_visible in rows
        if is_visible and (wanted is None or document in wanted)
    }
    of_live = [hit for hit in hits if hit.write_id in live]
    counting = _counting(session, of_live)
    return Standing(
        [hit for hit in of_live if hit.write_id in seen and counting.get(hit.point_id)],
        frozenset(live | counting.keys()),
        frozenset(
            {hit.write_id for hit in hits} - live
            | {hit.point_id for hit in of_live} - counting.keys()
        ),
    )


def _counting(session: Session, hits: Sequence[Hit]) -> dict[UUID, bool]:
    """Of each point that is a segment's or a child's now, whether that is enabled."""
    ids = list({hit.id for hit in hits})
    enabled: dict[UUID, bool] = {row[0]: row[1] for row in session.execute(_SEGMENTS, {"ids": ids})}
    if children := [one for one in ids if one not in enabled]:
        enabled |= {row[0]: row[1] for row in session.execute(_CHILDREN, {"ids": children})}
    outdated = vector_points.outdated(session, list({hit.write_id for hit in hits}), ids)
    return {
        hit.point_id: enabled[hit.id]
        for hit in hits
        if hit.id in enabled and (hit.id, hit.write_id) not in outdated
    }


def live(
    session: Session, document_id: UUID, version: int, generation: int
) -> Sequence[Row[UUID, int]]:
    """The writes, and their dimensions, that serve a version of a document in an index."""
    values = {"document_id": document_id, "version": version, "generation": generation}
    return session.execute(_LIVE, values).all()


def unused(session: Session, again_seconds: float, limit: int) -> Sequence[Row[UUID, int, bool]]:
    """Writes that neither search nor a running claim needs, and whether they were swept before."""
    values = {"again_seconds": again_seconds, "limit": limit}
    return session.execute(_UNUSED, values).all()


def unknown(session: Session, ids: Collection[UUID]) -> set[UUID]:
    """Those of these writes that the ledger does not have."""
    query = select(VectorWrite.id).where(VectorWrite.id.in_(list(ids)))
    return set(ids) - set(session.scalars(query))


def swept(session: Session, once: Sequence[UUID], twice: Sequence[UUID]) -> None:
    """Note which writes' vectors were deleted; after the second time the row goes."""
    session.execute(_SWEPT, {"ids": list(map(str, once))})
    session.execute(_FORGET, {"ids": list(map(str, twice))})
