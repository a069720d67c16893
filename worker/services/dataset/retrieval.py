"""Search: a question finds passages of the documents' active versions."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from shared.errors import InvalidRequest, NotFound
from shared.models import Dataset, Document, DocumentSegment
from worker.services.dataset.needs import Embedders
from worker.stores.vectors import VectorStore


@dataclass(frozen=True, slots=True)
class RetrievalNeeds:
    """What a search touches."""

    sessions: sessionmaker[Session]
    embedders: Embedders
    vectors: VectorStore


@dataclass(frozen=True, slots=True)
class FoundPassage:
    """A passage that answers.

    Attributes:
        score: the cosine of question and passage, at most 1.
        position: the passage's place in its document, from 0.
        page: the page it begins on, from 1, where the format has pages.
    """

    document_id: UUID
    document_name: str
    segment_id: UUID
    position: int
    page: int | None
    score: float
    content: str


def search(
    dataset_id: UUID, question: str, needs: RetrievalNeeds, limit: int = 5
) -> list[FoundPassage]:
    """The passages nearest in meaning, best first.

    Raises:
        InvalidRequest: the question is empty.
        NotFound: there is no such dataset.
    """
    if not question.strip():
        raise InvalidRequest("the question is empty: ask for something")
    with needs.sessions() as session:
        dataset = session.get(Dataset, dataset_id)
        if dataset is None:
            raise NotFound(f"there is no dataset {dataset_id}")
        embedder = needs.embedders(dataset.embedding_provider, dataset.embedding_model)
        query = embedder.embed([question]).vectors[0]
        matches = needs.vectors.search(session, dataset_id, query, limit)
        rows = session.execute(
            select(DocumentSegment, Document.name)
            .join(Document, Document.id == DocumentSegment.document_id)
            .where(DocumentSegment.id.in_([match.id for match in matches]), DocumentSegment.enabled)
        )
        by_id = {row.DocumentSegment.id: row for row in rows}
    return [
        FoundPassage(
            document_id=by_id[match.id].DocumentSegment.document_id,
            document_name=by_id[match.id].name,
            segment_id=match.id,
            position=by_id[match.id].DocumentSegment.position,
            page=by_id[match.id].DocumentSegment.page,
            score=match.score,
            content=by_id[match.id].DocumentSegment.content,
        )
        for match in matches
        if match.id in by_id
    ]
