"""Vectors lead to segments: to their own, or as a child's to its parent."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.models import ChildChunk, DocumentSegment
from shared.models.process_rule import DocForm
from worker.stores.vectors import Match

#: Children asked for at first, for each parent that is wanted; then as many times more.
CHILDREN_PER_PARENT = 4


@dataclass(frozen=True, slots=True)
class FoundChild:
    """A child that answers; ``position`` in its parent, from 0."""

    id: UUID
    position: int
    score: float
    content: str


@dataclass(frozen=True, slots=True)
class Hit:
    """A segment that answers, by its own vector or by its best child's."""

    segment_id: UUID
    score: float
    children: tuple[FoundChild, ...] = ()


def find_segments(
    session: Session, doc_form: str, nearest: Callable[[int], list[Match]], limit: int
) -> list[Hit]:
    """The nearest segments, best first, each once.

    Args:
        session: the search's.
        doc_form: the dataset's: it says whose the vectors are.
        nearest: the best matches of the vector store, as many as it is asked for.
        limit: most segments.
    """
    if doc_form != DocForm.HIERARCHICAL:
        return [Hit(match.id, match.score) for match in nearest(limit)]
    wanted = limit
    while True:
        # One parent may have all of the best children: ask for more until it is many parents.
        wanted *= CHILDREN_PER_PARENT
        matches = nearest(wanted)
        hits = _to_parents(session, matches)
        if len(hits) >= limit or len(matches) < wanted:
            return hits[:limit]


def _to_parents(session: Session, matches: Sequence[Match]) -> list[Hit]:
    """The parents of children, best first: each once, with its best child's score."""
    rows = session.execute(
        select(ChildChunk.id, ChildChunk.segment_id, ChildChunk.position, ChildChunk.content)
        .join(DocumentSegment, DocumentSegment.id == ChildChunk.segment_id)
        .where(ChildChunk.id.in_([match.id for match in matches]), DocumentSegment.enabled)
    )
    by_id = {row.id: row for row in rows}
    children: dict[UUID, list[FoundChild]] = {}
    for match in matches:
        if (row := by_id.get(match.id)) is not None:
            child = FoundChild(row.id, row.position, match.score, row.content)
            children.setdefault(row.segment_id, []).append(child)
    return [Hit(segment_id, found[0].score, tuple(found)) for segment_id, found in children.items()]
