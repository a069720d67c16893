"""Datasets and documents of a form, and what their rows say."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from uuid import UUID, uuid4

from flask import Flask
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shared.models import ChildChunk, Document, DocumentSegment, SegmentVector
from shared.submitting.dataset import Submission, ensure_dataset, ensure_tenant, submit_documents
from shared.submitting.files import store_file
from worker.providers.embedder import Embedder, Embeddings
from worker.services.dataset.found_passages import FoundPassage
from worker.services.dataset.indexing import index_document
from worker.services.dataset.needs import IndexingNeeds
from worker.services.dataset.retrieval import search
from worker.services.dataset.search_options import SearchOptions
from worker.wiring import embedder, indexing_needs, retrieval_needs


class CountingEmbedder:
    """The real embedder; keeps what each call was given and calls back before it."""

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        self._real: Embedder = embedder("wordllama", "l2_supercat_256")
        self.model, self.dimension = self._real.model, self._real.dimension
        self.is_costly = self._real.is_costly
        self.before = before
        self.calls: list[list[str]] = []

    @property
    def texts(self) -> list[str]:
        """Everything that was embedded."""
        return [text for call in self.calls for text in call]

    def embed(self, texts: Sequence[str]) -> Embeddings:
        self.before()
        self.calls.append(list(texts))
        return self._real.embed(texts)

    def count_tokens(self, text: str) -> int:
        return self._real.count_tokens(text)


@dataclass(frozen=True)
class Rows:
    """A document's rows, as (version, position …), in order."""

    segments: list[tuple[int, int]]
    children: list[tuple[int, int, int]]
    #: Those that carry a vector each, by what carries it.
    segment_vectors: int
    child_vectors: int
    orphan_vectors: int


class Place:
    """One dataset of a form, and everything done with it."""

    def __init__(
        self, app: Flask, session: Session, doc_form: str, technique: str | None = None
    ) -> None:
        self.session = session
        self._app = app
        self._tenant_id = ensure_tenant(session, "acme")
        name = f"{doc_form} {uuid4()}"
        self.dataset_id = ensure_dataset(
            session, self._tenant_id, name, doc_form=doc_form, technique=technique
        )
        session.commit()

    def submit(self, name: str, content: str | bytes, **options: object) -> Submission:
        """Submit a file; its name is its key."""
        raw = content.encode() if isinstance(content, str) else content
        file = store_file(self._app.extensions["storage"], self._tenant_id, name, io.BytesIO(raw))
        redis = self._app.extensions["redis"]
        (made,) = submit_documents(self.session, redis, self.dataset_id, [(name, file)], **options)
        self.session.commit()
        return made

    def index(self, document_id: UUID, **needs: object) -> None:
        """Index a document in this process."""
        index_document(document_id, self.dataset_id, replace(indexing_needs(), **needs))

    def add(self, name: str, content: str | bytes, **options: object) -> UUID:
        """Submit and index."""
        document_id = self.submit(name, content, **options).document_id
        self.index(document_id)
        return document_id

    def search(self, question: str, limit: int = 5, method: str = "vector") -> list[FoundPassage]:
        """Search the dataset."""
        options = SearchOptions(method, limit)
        return search(self.dataset_id, question, retrieval_needs(), options)

    def document(self, document_id: UUID) -> Document:
        """The document as it is in the database now."""
        self.session.rollback()
        return self.session.get_one(Document, document_id, populate_existing=True)

    def segments(self, document_id: UUID) -> list[DocumentSegment]:
        """The document's segments of every version, in order."""
        self.session.rollback()
        query = (
            select(DocumentSegment)
            .where(DocumentSegment.document_id == document_id)
            .order_by(DocumentSegment.version, DocumentSegment.position)
        )
        return list(self.session.scalars(query.execution_options(populate_existing=True)))

    def children(self, document_id: UUID) -> list[ChildChunk]:
        """The document's children of every version, in the order of their parents."""
        self.session.rollback()
        query = (
            select(ChildChunk)
            .join(DocumentSegment, DocumentSegment.id == ChildChunk.segment_id)
            .where(ChildChunk.document_id == document_id)
            .order_by(ChildChunk.version, DocumentSegment.position, ChildChunk.position)
        )
        return list(self.session.scalars(query.execution_options(populate_existing=True)))

    def rows(self, document_id: UUID) -> Rows:
        """What there is of a document."""
        segments, children = self.segments(document_id), self.children(document_id)
        parents = {one.id: one.position for one in segments}
        query = select(SegmentVector.id, SegmentVector.version)
        found = self.session.execute(query.where(SegmentVector.document_id == document_id))
        vectors = {(row.id, row.version) for row in found}
        of_segments = {(one.id, one.version) for one in segments} & vectors
        of_children = {(one.id, one.version) for one in children} & vectors
        every_child = self.session.scalar(
            select(func.count()).where(ChildChunk.document_id == document_id)
        )
        assert every_child == len(children), "children without a parent"
        return Rows(
            [(one.version, one.position) for one in segments],
            [(one.version, parents[one.segment_id], one.position) for one in children],
            len(of_segments),
            len(of_children),
            len(vectors - of_segments - of_children),
        )


def needs_with(observed: CountingEmbedder, **values: object) -> IndexingNeeds:
    """The real needs with this embedder."""
    return replace(indexing_needs(), embedders=lambda *_: observed, **values)
