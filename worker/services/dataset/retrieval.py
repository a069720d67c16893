"""Search: a question finds passages of the documents' active versions."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from shared.errors import InvalidRequest, NotFound
from shared.models import Dataset, Document, DocumentSegment
from shared.models.dataset import ECONOMY
from shared.models.retrieval_model import read_retrieval_model
from worker.services.dataset import keywords
from worker.services.dataset.filtering import documents_asked_for
from worker.services.dataset.found_children import (
    CHILDREN_PER_PARENT,
    FoundChild,
    Hit,
    find_segments,
)
from worker.services.dataset.fusing import fuse
from worker.services.dataset.keywords import Coverage
from worker.services.dataset.needs import Embedders
from worker.services.dataset.search_options import SearchMethod, SearchOptions, check_question
from worker.stores.vectors import Asked, Match, VectorQuery, VectorStore

logger = logging.getLogger(__name__)

#: Either side of a hybrid search gives this many, or as many as are asked for: a passage may
#: be first of all without being first on any side.
_HYBRID_DEPTH = 100

#: Answers of an external vector store looked at before the last one is taken: one may be
#: outdated by the time it is checked.
_ROUNDS = 8

_ANY = SearchOptions()


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


@dataclass(frozen=True, slots=True)
class _Model:
    """What of a dataset decides how it is searched."""

    technique: str
    provider: str
    name: str
    doc_form: str
    generation: int
    #: As it is stored; see ``RetrievalModel``.
    retrieval: Mapping[str, Any]


def search(
    dataset_id: UUID, question: str, needs: RetrievalNeeds, options: SearchOptions = _ANY
) -> list[FoundPassage]:
    """The passages that answer best, best first: of one moment, never of two versions.

    Raises:
        InvalidRequest: the question is empty, or the dataset cannot be searched that way.
        NotFound: there is no such dataset, or it has no such document.
        ServiceUnavailable: (transient) the embedding provider does not answer.
    """
    check_question(question)
    given = options
    while True:
        with needs.sessions() as session:
            model = _model(session, dataset_id)
        options = given.over(
            read_retrieval_model(model.retrieval), has_vectors=model.technique != ECONOMY
        )
        # Before any snapshot: no transaction waits for a provider or a store.
        vector = _embedded(question, model, needs, options)
        query = None
        if vector is not None:
            depth = CHILDREN_PER_PARENT * max(_HYBRID_DEPTH, options.passages)
            query = VectorQuery(dataset_id, model.generation, vector, depth)
        passages = _settled(dataset_id, question, model, query, needs, options)
        if passages is not None:
            return passages


def _settled(
    dataset_id: UUID,
    question: str,
    model: _Model,
    query: VectorQuery | None,
    needs: RetrievalNeeds,
    options: SearchOptions,
) -> list[FoundPassage] | None:
    """What is found; ``None`` when the dataset's model was changed meanwhile."""
    asked = Asked()
    passages: list[FoundPassage] = []
    if query is not None and needs.vectors.is_external:
        with needs.sessions() as session:
            query = replace(query, documents=documents_asked_for(session, dataset_id, options))
        asked = needs.vectors.ask(query)
    for _ in range(_ROUNDS):
        with _snapshot(needs.sessions) as session:
            if _model(session, dataset_id) != model:
                return None
            passages, again = _search(
                session, dataset_id, model, question, query, asked, needs, options
            )
        if query is None or again is None:
            break
        asked = needs.vectors.ask(query, again)
    return passages


def _search(
    session: Session,
    dataset_id: UUID,
    model: _Model,
    question: str,
    query: VectorQuery | None,
    asked: Asked,
    needs: RetrievalNeeds,
    options: SearchOptions,
) -> tuple[list[FoundPassage], Asked | None]:
    coverage = keywords.coverage(session, dataset_id)
    method = _method(options, coverage, has_vector=query is not None)
    documents = documents_asked_for(session, dataset_id, options)
    if documents is not None and not documents:
        return [], None
    is_hybrid = method is SearchMethod.HYBRID
    depth = max(_HYBRID_DEPTH, options.passages) if is_hybrid else options.passages
    hits: list[Hit] = []
    by_keyword: list[Match] = []
    again: Asked | None = None
    if method is not SearchMethod.KEYWORD and query is not None:

        def nearest(wanted: int) -> list[Match]:
            nonlocal again
            asked_for = replace(query, limit=wanted, documents=documents)
            found = needs.vectors.search(session, asked_for, asked)
            again = found.again
            return found.matches

        hits = find_segments(session, model.doc_form, nearest, depth)
    by_vector = [Match(hit.segment_id, hit.score) for hit in hits]
    if method is not SearchMethod.VECTOR:
        _require_keywords(dataset_id, model, coverage)
        by_keyword = keywords.search(session, dataset_id, question, depth, documents, coverage)
    matches = (
        fuse(by_vector, by_keyword) if method is SearchMethod.HYBRID else by_vector or by_keyword
    )
    if options.score_threshold is not None:
        matches = [match for match in matches if match.score >= options.score_threshold]
    children = {hit.segment_id: hit.children for hit in hits}
    return _passages(session, matches[: options.passages], children), again


def _model(session: Session, dataset_id: UUID) -> _Model:
    query = select(
        Dataset.indexing_technique,
        Dataset.embedding_provider,
        Dataset.embedding_model,
        Dataset.doc_form,
        Dataset.index_generation,
        Dataset.retrieval_model,
    ).where(Dataset.id == dataset_id)
    row = session.execute(query).one_or_none()
    if row is None:
        raise NotFound(f"there is no dataset {dataset_id}")
    return _Model(*row)


def _embedded(
    question: str, model: _Model, needs: RetrievalNeeds, options: SearchOptions
) -> NDArray[np.float32] | None:
    """The question's vector, ``None`` where no vectors are searched."""
    if model.technique == ECONOMY:
        if options.method not in {None, SearchMethod.KEYWORD}:
            raise InvalidRequest(
                f"an economy dataset has no vectors, so it cannot be searched by "
                f"{options.method}: search by keyword"
            )
        return None
    if options.method == SearchMethod.KEYWORD:
        return None
    embedder = needs.embedders(model.provider, model.name)
    vector: NDArray[np.float32] = embedder.embed([question]).vectors[0]
    return vector


@contextmanager
def _snapshot(sessions: "sessionmaker[Session]") -> Iterator[Session]:
    """A session in which every query sees the same moment."""
    with sessions() as session:
        session.connection(
            execution_options={"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        )
        yield session


def _method(options: SearchOptions, coverage: Coverage, *, has_vector: bool) -> SearchMethod:
    if options.method is not None:
        return SearchMethod(options.method)
    if not has_vector:
        return SearchMethod.KEYWORD
    return SearchMethod.HYBRID if coverage.with_keywords else SearchMethod.VECTOR


def _require_keywords(dataset_id: UUID, model: _Model, coverage: Coverage) -> None:
    if not coverage.without_keywords:
        return
    if not coverage.with_keywords:
        raise InvalidRequest(
            f"the documents of dataset {dataset_id} have no keywords: "
            + (
                "index them again"
                if model.technique == ECONOMY
                else "search it by vector, or set INDEXING_KEYWORDS=true and index them again"
            )
        )
    logger.warning(
        "%d documents of dataset %s have no keywords: only their vectors are searched; "
        "index them again with INDEXING_KEYWORDS=true",
        coverage.without_keywords,
        dataset_id,
        extra={"action": "search.keywords_missing"},
    )


def _passages(
    session: Session, matches: Sequence[Match], children: Mapping[UUID, tuple[FoundChild, ...]]
) -> list[FoundPassage]:
    rows = session.execute(
        select(DocumentSegment, Document.name)
        .join(Document, Document.id == DocumentSegment.document_id)
        .where(DocumentSegment.id.in_([match.id for match in matches]))
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
            answer=by_id[match.id].DocumentSegment.answer,
            is_summary=by_id[match.id].DocumentSegment.is_summary,
            children=children.get(match.id, ()),
        )
        for match in matches
        if match.id in by_id
    ]
