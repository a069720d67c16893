"""Passages that a search found, with what they say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from shared.models import Document, DocumentSegment
from worker.services.dataset.found_children import FoundChild
from worker.stores.vectors import Match

# Made once: making a statement takes longer than executing it.
_PASSAGES = (
    select(
        DocumentSegment.id.label("segment_id"),
        DocumentSegment.document_id,
        Document.name.label("document_name"),
        DocumentSegment.position,
        DocumentSegment.page,
        DocumentSegment.content,
        DocumentSegment.answer,
        DocumentSegment.is_summary,
    )
    .join(Document, Document.id == DocumentSegment.document_id)
    .where(DocumentSegment.id.in_(bindparam("ids", expanding=True)))
)


@dataclass(frozen=True, slots=True)
class FoundPassage:
    """A passage that answers.

    Attributes:
        score: by vector, the cosine of question and passage, at most 1; by keyword, the
            share of the question's words it holds, rare ones weighing more; hybrid, both
            fused, 1 for what is first and perfect on both sides. A parent's cosine is
            that of its best child.
        position: the passage's place in its document, from 0.
        page: the page it begins on, from 1, where the format has pages.
        answer: of a question, what answers it.
        is_summary: whether it was written about the document, and is no passage of it.
        children: of a parent, those of its children that were found, best first.
    """

    document_id: UUID
    document_name: str
    segment_id: UUID
    position: int
    page: int | None
    score: float
    content: str
    answer: str | None = None
    is_summary: bool = False
    children: tuple[FoundChild, ...] = ()


def passages_of(
    session: Session, matches: Sequence[Match], children: Mapping[UUID, tuple[FoundChild, ...]]
) -> list[FoundPassage]:
    """What stands in the segments that were found, in their order; those that are gone left out."""
    rows = session.execute(_PASSAGES, {"ids": [match.id for match in matches]})
    by_id = {row.segment_id: row._asdict() for row in rows}
    return [
        FoundPassage(**by_id[one.id], score=one.score, children=children.get(one.id, ()))
        for one in matches
        if one.id in by_id
    ]
