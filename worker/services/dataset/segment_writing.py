"""Contents become segments: embedded outside of any transaction, written whole in one."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Row, func, select, text
from sqlalchemy.orm import Session

from shared.models import Document, DocumentSegment
from shared.models.process_rule import DocForm
from shared.models.segment_work import COMPLETED
from shared.submitting.segment_counters import Difference, add_to_counters
from shared.submitting.segment_switches import outdate_builds, remove_vectors
from worker.services.dataset import child_chunks, keywords, segments
from worker.services.dataset.claiming import Job
from worker.services.dataset.embedding import (
    EmbeddedPassage,
    Lookup,
    embed_parents,
    embed_passages,
)
from worker.services.dataset.families import Families
from worker.services.dataset.indexing import embedder_of, require_dimension
from worker.services.dataset.needs import IndexingNeeds
from worker.services.dataset.plans import plan_of
from worker.services.dataset.splitting import Passage, SplitRule
from worker.services.dataset.vector_batches import require_same_index, vectors_of
from worker.services.dataset.words import WordCounts
from worker.stores.vectors import VectorStore

#: What a person wrote as one segment stays one.
_WHOLE = SplitRule(max_tokens=1_000_000, overlap_tokens=0)

_DELETE_WORDS = text("""
    DELETE FROM segment_keywords WHERE segment_id = :segment_id RETURNING length
""")
_DELETE_CHILDREN = text("DELETE FROM child_chunks WHERE segment_id = :segment_id RETURNING id")
_SWITCH = text("""
    UPDATE document_segments
    SET content = :content, answer = :answer, keywords = CAST(:keywords AS text[]),
        word_count = :words, tokens = :tokens, index_node_hash = :hash, page = NULL,
        status = 'completed', error = NULL
    WHERE id = :segment_id
""")


@dataclass(frozen=True, slots=True)
class Content:
    """What a segment says; ``keywords`` are words it is found by that its text lacks."""

    text: str
    answer: str | None = None
    keywords: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A content with all that search needs of it; ``words`` is ``None`` where none are kept."""

    content: Content
    embedded: EmbeddedPassage
    words: WordCounts | None

    @property
    def can_be_found(self) -> bool:
        """Whether any search could find it."""
        has_vector = self.embedded.vector is not None and len(self.embedded.vector) > 0
        has_children = any(
            one.vector is not None and len(one.vector) for one in self.embedded.children
        )
        return has_vector or has_children or bool(self.words and self.words.length)


@dataclass(frozen=True, slots=True)
class Served:
    """The document that segments are written to, locked."""

    has_keywords: bool
    total_segments: int


def prepare(
    job: Job, contents: Sequence[Content], needs: IndexingNeeds, lookup: Lookup
) -> list[Prepared]:
    """Embed contents, and count their words; in no transaction.

    Raises:
        ServiceUnavailable: (transient) the embedding provider does not answer.
        Permanent: the dataset's model makes other vectors than it holds.
    """
    plan, embedder = plan_of(job), embedder_of(job, needs)
    if plan.form is DocForm.HIERARCHICAL:
        families = Families(plan.children, embedder.count_tokens)
        parents = [families.by_hand(one.text) for one in contents]
        embedded = embed_parents(parents, plan.embedded, embedder, lookup)
    else:
        passages = [
            Passage(one.text, page=None, is_markdown=False, answer=one.answer) for one in contents
        ]
        embedded = embed_passages(passages, _WHOLE, embedder, lookup)
    require_dimension(job, embedder)
    if job.has_vectors and not needs.keywords:
        counts: Sequence[WordCounts | None] = [None] * len(contents)
    else:
        texts = ["\n".join((one.text, *(one.keywords or ()))) for one in contents]
        counts = keywords.count(texts, job.dataset_id)
    return [Prepared(*one) for one in zip(contents, embedded, counts, strict=True)]


def send(vectors: VectorStore, job: Job, ids: Sequence[UUID], prepared: Sequence[Prepared]) -> None:
    """Write vectors ahead of their rows, where they cannot share a transaction.

    Raises:
        ServiceUnavailable: (transient) the vector store does not answer.
    """
    if vectors.is_external and job.has_vectors:
        embedded = [one.embedded for one in prepared]
        vectors.send(vectors_of(job, ids, embedded, list(child_chunks.children_of(ids, embedded))))


def lock_served(session: Session, job: Job) -> Served | None:
    """Lock the document for its counters; ``None`` when it is gone, or serves another version."""
    row: Row[int | None, int | None, int] | None = session.execute(
        select(Document.active_version, Document.keyword_segments, Document.total_segments)
        .where(Document.id == job.document_id)
        .with_for_update(key_share=True)
    ).one_or_none()
    if row is None or row.active_version != job.version:
        return None
    return Served(row.keyword_segments is not None, row.total_segments)


def append(
    session: Session,
    job: Job,
    needs: IndexingNeeds,
    served: Served,
    ids: Sequence[UUID],
    prepared: Sequence[Prepared],
) -> None:
    """Write new segments at the document's end, in the caller's transaction."""
    query = select(func.max(DocumentSegment.position)).where(
        DocumentSegment.document_id == job.document_id, DocumentSegment.version == job.version
    )
    last = session.scalar(query)
    embedded = [one.embedded for one in prepared]
    first = 0 if last is None else last + 1
    segments.write(session, job.owner, range(first, first + len(ids)), ids, embedded)
    _write_what_finds(session, job, needs, served, ids, prepared)
    words = [one.words for one in prepared if one.words and served.has_keywords]
    difference = Difference(
        total=len(ids),
        completed=len(ids),
        words=sum(one.words for one in embedded),
        tokens=sum(one.tokens for one in embedded),
        keyword_segments=sum(one.length > 0 for one in words),
        keyword_words=sum(one.length for one in words),
    )
    add_to_counters(session, job.document_id, difference)


def switch(
    session: Session,
    job: Job,
    needs: IndexingNeeds,
    served: Served,
    segment_id: UUID,
    prepared: Prepared,
) -> bool:
    """Give a segment its content and what finds it, in the caller's transaction.

    Returns:
        False when the segment is gone.
    """
    query = select(DocumentSegment.word_count, DocumentSegment.tokens, DocumentSegment.status)
    before = session.execute(
        query.where(DocumentSegment.id == segment_id).with_for_update()
    ).one_or_none()
    if before is None:
        return False
    # Before the new ones: those of children that stay as they are have the same ids.
    old_words = session.scalars(_DELETE_WORDS, {"segment_id": segment_id}).all()
    old_children = session.scalars(_DELETE_CHILDREN, {"segment_id": segment_id}).all()
    remove_vectors(session, job.document_id, [segment_id, *old_children])
    content, embedded = prepared.content, prepared.embedded
    session.execute(
        _SWITCH,
        {
            "segment_id": segment_id,
            "content": content.text,
            "answer": content.answer,
            "keywords": None if content.keywords is None else list(content.keywords),
            "words": embedded.words,
            "tokens": embedded.tokens,
            "hash": embedded.content_hash,
        },
    )
    _write_what_finds(session, job, needs, served, [segment_id], [prepared])
    length = prepared.words.length if prepared.words and served.has_keywords else 0
    difference = Difference(
        completed=int(before.status != COMPLETED),
        words=embedded.words - before.word_count,
        tokens=embedded.tokens - before.tokens,
        keyword_segments=(length > 0) - len(old_words),
        keyword_words=length - sum(old_words),
    )
    add_to_counters(session, job.document_id, difference)
    return True


def _write_what_finds(
    session: Session,
    job: Job,
    needs: IndexingNeeds,
    served: Served,
    ids: Sequence[UUID],
    prepared: Sequence[Prepared],
) -> None:
    """Write children, words and vectors of segments."""
    counts = [one.words for one in prepared]
    if served.has_keywords:
        counted = [pair for pair in zip(ids, counts, strict=True) if pair[1] is not None]
        known = [words for _, words in counted if words is not None]
        keywords.write(session, job.owner, [one for one, _ in counted], known)
    embedded = [one.embedded for one in prepared]
    children = list(child_chunks.children_of(ids, embedded))
    if children:
        child_chunks.write(session, job.owner, children)
    if not job.has_vectors:
        return
    require_same_index(session, job)
    outdate_builds(session, job.document_id)
    needs.vectors.at(job.vector_store).upsert(session, vectors_of(job, ids, embedded, children))
