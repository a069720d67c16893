"""A document whose segments are changed by hand, and what all its rows have to say."""

from dataclasses import dataclass, replace
from uuid import UUID

from flask import Flask
from qdrant_client import QdrantClient, models
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from shared.models import (
    ChildChunk,
    Document,
    DocumentSegment,
    OutboxMessage,
    SegmentEdit,
    SegmentImport,
    SegmentKeywords,
    SegmentVector,
)
from shared.submitting import segments
from tests.integration.form_documents import CountingEmbedder, Place
from worker.services.dataset.needs import IndexingNeeds
from worker.stores import vector_writes
from worker.stores.qdrant import QdrantVectorStore
from worker.stores.vectors import Hit
from worker.wiring import indexing_needs, vector_stores

MANUAL = "The lighthouse lamp turns once in twelve seconds."


@dataclass(frozen=True)
class Shape:
    """A form and a technique, and the file its document is made from."""

    form: str
    technique: str
    name: str
    content: str

    @property
    def answer(self) -> str | None:
        return "An answer." if self.form == "qa_model" else None


SHAPES = {
    "text": Shape("text_model", "high_quality", "manual.txt", MANUAL),
    "economy": Shape("text_model", "economy", "manual.txt", MANUAL),
    "parents": Shape("hierarchical_model", "high_quality", "manual.txt", MANUAL),
    "questions": Shape(
        "qa_model", "high_quality", "manual.csv", f"question,answer\n{MANUAL[:-1]}?,Yes\n"
    ),
}


class Book:
    """One indexed document of a shape."""

    def __init__(self, app: Flask, session: Session, shape: Shape) -> None:
        self.app, self.session, self.shape = app, session, shape
        self.place = Place(app, session, shape.form, shape.technique)
        self.document_id = self.place.add(shape.name, shape.content)
        self.drop_messages()

    def create(self, content: str, **options: object) -> UUID:
        made = segments.create_segment(
            self.session, self.document_id, content, self.shape.answer, **options
        )
        self.session.commit()
        return made

    def update(self, segment_id: UUID, content: str | None = None, **options: object) -> None:
        segments.update_segment(self.session, segment_id, content, **options)
        self.session.commit()

    def do(self, change: object, ids: list[UUID]) -> list[UUID]:
        changed = change(self.session, ids)
        self.session.commit()
        return changed

    def document(self) -> Document:
        return self.place.document(self.document_id)

    def segment(self, segment_id: UUID) -> DocumentSegment:
        self.session.rollback()
        return self.session.get_one(DocumentSegment, segment_id, populate_existing=True)

    def first(self) -> UUID:
        return self.place.segments(self.document_id)[0].id

    def edits(self) -> list[SegmentEdit]:
        self.session.rollback()
        query = select(SegmentEdit).execution_options(populate_existing=True)
        return list(self.session.scalars(query))

    def import_row(self, import_id: UUID) -> SegmentImport:
        self.session.rollback()
        return self.session.get_one(SegmentImport, import_id, populate_existing=True)

    def messages(self) -> list[tuple[str, list]]:
        self.session.rollback()
        rows = self.session.scalars(select(OutboxMessage).order_by(OutboxMessage.sequence))
        return [(one.task.rpartition(".")[2], one.args) for one in rows]

    def drop_messages(self) -> None:
        """As if a broker and a worker had lost them."""
        self.session.execute(text("DELETE FROM outbox"))
        self.session.commit()

    def contents(self) -> list[tuple[str, str]]:
        """Content and status of each segment, in order."""
        return [(one.content, one.status) for one in self.place.segments(self.document_id)]

    def found(self, question: str) -> list[str]:
        method = "keyword" if self.shape.technique == "economy" else "vector"
        return [one.content for one in self.place.search(question, 10, method)]

    def embedder(self, before: object = lambda: None) -> "tuple[CountingEmbedder, IndexingNeeds]":
        observed = CountingEmbedder(before)
        return observed, replace(indexing_needs(), embedders=lambda *_: observed)

    def vectors(self) -> set[UUID]:
        """Whose vectors count; in Qdrant they are all there is of this document, once collected."""
        store = vector_stores().at(None)
        if not isinstance(store, QdrantVectorStore):
            query = select(SegmentVector.id).where(SegmentVector.document_id == self.document_id)
            return set(self.session.scalars(query))
        store.collect()
        hits = self.points(store)
        counted = vector_writes.standing(self.session, hits, None).counted
        standing = [hit.id for hit in hits if hit.point_id in counted]
        assert len(set(standing)) == len(standing), "a segment would be found twice"
        if not self.has_lease():
            assert len(standing) == len(hits), "nobody collected what does not count"
        return set(standing)

    def points(self, store: QdrantVectorStore) -> list[Hit]:
        """The points of this document that are in Qdrant, whatever is to be thought of them."""
        made: list[Hit] = []
        client: QdrantClient = store._client
        for collection in client.get_collections().collections:
            points, _ = client.scroll(collection.name, limit=10_000)
            payloads = [(UUID(str(one.id)), one.payload or {}) for one in points]
            made += [
                Hit(UUID(payload["segment_id"]), 1, UUID(payload["write_id"]), point)
                for point, payload in payloads
                if payload["document_id"] == str(self.document_id)
            ]
        return made

    def has_lease(self) -> bool:
        """Whether somebody is writing, or has died of it."""
        query = " UNION ALL ".join(
            f"SELECT 1 FROM {table} WHERE lease_expires_at IS NOT NULL"
            for table in ("documents", "segment_edits", "segment_imports")
        )
        return bool(self.session.execute(text(query)).all())

    def lose_index(self) -> None:
        """As if a store had lost all it held, and nobody knew."""
        for statement in (
            "DELETE FROM segment_vectors",
            "DELETE FROM segment_keywords",
            "UPDATE documents SET keyword_segments = 0, keyword_words = 0",
        ):
            self.session.execute(text(statement))
        self.session.commit()
        store = vector_stores().at(None)
        if isinstance(store, QdrantVectorStore):
            client: QdrantClient = store._client
            for collection in client.get_collections().collections:
                client.delete(collection.name, models.FilterSelector(filter=models.Filter()))

    def require_sound(self) -> None:
        """Every counter is what its rows say; what is completed can be found, once; no orphans."""
        document, rows = self.document(), self.place.segments(self.document_id)
        assert {one.version for one in rows} <= {document.active_version}
        assert len({one.position for one in rows}) == len(rows)
        done = [one for one in rows if one.status == "completed"]
        assert document.total_segments == len(rows)
        assert document.completed_segments == len(done)
        assert document.word_count == sum(one.word_count for one in rows)
        assert document.tokens == sum(one.tokens for one in rows)
        words = self.session.execute(
            select(SegmentKeywords.segment_id, SegmentKeywords.length).where(
                SegmentKeywords.document_id == self.document_id
            )
        ).all()
        assert document.keyword_segments == len(words)
        assert document.keyword_words == sum(one.length for one in words)
        ids = {one.id for one in rows}
        assert {one.segment_id for one in words} <= ids
        children = self.place.children(self.document_id)
        assert {one.segment_id for one in children} <= ids
        vectors = self.vectors()
        if self.shape.technique == "economy":
            assert vectors == set()
            assert {one.segment_id for one in words} >= {one.id for one in done}
        elif self.shape.form == "hierarchical_model":
            assert vectors == {one.id for one in children}
            assert {one.segment_id for one in children} >= {one.id for one in done}
        else:
            assert vectors <= ids
            assert vectors >= {one.id for one in done}
        every_child = select(func.count()).where(ChildChunk.document_id == self.document_id)
        assert self.session.scalar(every_child) == len(children)
