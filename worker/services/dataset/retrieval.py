"""Search: a question finds passages of the documents' active versions."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from shared.errors import InvalidRequest, RagWorkerError
from shared.models.dataset import ECONOMY
from shared.models.retrieval_model import read_retrieval_model
from worker.services.dataset.filtering import documents_asked_for
from worker.services.dataset.found_children import (
    CHILDREN_PER_PARENT,
    Hit,
    find_segments,
)
from worker.services.dataset.found_passages import FoundPassage, passages_of
from worker.services.dataset.fusing import fuse
from worker.services.dataset.keyword_ranking import rank
from worker.services.dataset.keyword_statistics import NO_KEYWORDS, Coverage, coverage
from worker.services.dataset.nearest_passages import find_nearest, is_enough
from worker.services.dataset.needs import Embedders
from worker.services.dataset.search_options import SearchMethod, SearchOptions, check_question
from worker.services.dataset.searched_dataset import (
    Memory,
    Remembered,
    SearchedDataset,
    look,
    snapshot,
    statement,
)
from worker.services.dataset.words import count_words
from worker.stores.pgvector_indexes import usable_dimension
from worker.stores.vector_stores import VectorStores
from worker.stores.vectors import Asked, Match, VectorQuery

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

    engine: Engine
    sessions: sessionmaker[Session]
    embedders: Embedders
    vectors: VectorStores
    #: Notes that a dataset is searched; called once an hour of use, and must not wait.
    note_use: Callable[[UUID], None] | None = None
    #: Of this process; without one each search looks at its dataset first.
    memory: Memory = field(default_factory=Memory)

    def note(self, dataset_id: UUID, dataset: SearchedDataset) -> None:
        """Note the use of a dataset that was just looked at, if it is due."""
        if dataset.is_use_due and self.note_use is not None:
            self.note_use(dataset_id)


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
        remembered = needs.memory.get(dataset_id)
        known = remembered or _looked_at(dataset_id, needs)
        options = given.over(
            read_retrieval_model(known.dataset.retrieval),
            has_vectors=known.dataset.technique != ECONOMY,
        )
        try:
            passages = _found(dataset_id, question, known, needs, options)
        except RagWorkerError:
            if remembered is None or _holds(dataset_id, remembered, needs):
                raise
            passages = None
        if passages is not None:
            return passages
        needs.memory.forget(dataset_id)


def _looked_at(dataset_id: UUID, needs: RetrievalNeeds) -> Remembered:
    with statement(needs.sessions) as session:
        dataset = look(session, dataset_id)
        dimension = usable_dimension(session, dataset_id, dataset.generation)
    known = Remembered(dataset, dimension)
    needs.memory.keep(dataset_id, known)
    return known


def _holds(dataset_id: UUID, remembered: Remembered, needs: RetrievalNeeds) -> bool:
    with statement(needs.sessions) as session:
        return look(session, dataset_id) == remembered.dataset


def _found(
    dataset_id: UUID,
    question: str,
    known: Remembered,
    needs: RetrievalNeeds,
    options: SearchOptions,
) -> list[FoundPassage] | None:
    """What is found; ``None`` when the dataset is not what it was thought to be."""
    dataset = known.dataset
    # Before any snapshot: no transaction waits for a provider or a store.
    vector = _embedded(question, dataset, needs, options)
    query = None
    if vector is not None:
        if is_enough(known, vector, needs.vectors, options):
            nearest = find_nearest(dataset_id, vector, known, needs.engine, needs.memory, options)
            if nearest.dataset != dataset:
                return None
            if nearest.passages is not None:
                needs.note(dataset_id, nearest.dataset)
                return nearest.passages
        depth = CHILDREN_PER_PARENT * max(_HYBRID_DEPTH, options.passages)
        query = VectorQuery(dataset_id, dataset.generation, vector, depth)
    return _settled(dataset_id, question, dataset, query, needs, options)


def _settled(
    dataset_id: UUID,
    question: str,
    model: SearchedDataset,
    query: VectorQuery | None,
    needs: RetrievalNeeds,
    options: SearchOptions,
) -> list[FoundPassage] | None:
    """What is found; ``None`` when the dataset's model was changed meanwhile."""
    asked = Asked()
    passages: list[FoundPassage] = []
    store = None if query is None else needs.vectors.at(model.vector_store)
    if query is not None and store is not None and store.is_external:
        with needs.sessions() as session:
            query = replace(query, documents=documents_asked_for(session, dataset_id, options))
        asked = store.ask(query)
    for _ in range(_ROUNDS):
        with snapshot(needs.sessions) as session:
            dataset = look(session, dataset_id)
            if dataset != model:
                return None
            passages, again = _search(
                session, dataset_id, model, question, query, asked, needs, options
            )
        needs.note(dataset_id, dataset)
        if query is None or store is None or again is None:
            break
        asked = store.ask(query, again)
    return passages


def _search(
    session: Session,
    dataset_id: UUID,
    model: SearchedDataset,
    question: str,
    query: VectorQuery | None,
    asked: Asked,
    needs: RetrievalNeeds,
    options: SearchOptions,
) -> tuple[list[FoundPassage], Asked | None]:
    # It adds up all documents: where vectors alone are asked for, it would be half of the time.
    is_by_vector = options.method == SearchMethod.VECTOR
    words = [] if is_by_vector else count_words(question, dataset_id).numbers
    known = NO_KEYWORDS if is_by_vector else coverage(session, dataset_id, words)
    method = _method(options, known, has_vector=query is not None)
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
            found = needs.vectors.at(model.vector_store).search(session, asked_for, asked)
            again = found.again
            return found.matches

        hits = find_segments(session, model.doc_form, nearest, depth)
    by_vector = [Match(hit.segment_id, hit.score) for hit in hits]
    if method is not SearchMethod.VECTOR:
        _require_keywords(dataset_id, model, known)
        by_keyword = rank(session, dataset_id, words, depth, documents, known)
    matches = (
        fuse(by_vector, by_keyword) if method is SearchMethod.HYBRID else by_vector or by_keyword
    )
    if options.score_threshold is not None:
        matches = [match for match in matches if match.score >= options.score_threshold]
    children = {hit.segment_id: hit.children for hit in hits}
    return passages_of(session, matches[: options.passages], children), again


def _embedded(
    question: str, model: SearchedDataset, needs: RetrievalNeeds, options: SearchOptions
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
    embedder = needs.embedders(model.provider, model.model)
    vector: NDArray[np.float32] = embedder.embed([question]).vectors[0]
    return vector


def _method(options: SearchOptions, known: Coverage, *, has_vector: bool) -> SearchMethod:
    if options.method is not None:
        return SearchMethod(options.method)
    if not has_vector:
        return SearchMethod.KEYWORD
    return SearchMethod.HYBRID if known.with_keywords else SearchMethod.VECTOR


def _require_keywords(dataset_id: UUID, model: SearchedDataset, known: Coverage) -> None:
    if not known.without_keywords:
        return
    if not known.with_keywords:
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
        known.without_keywords,
        dataset_id,
        extra={"action": "search.keywords_missing"},
    )
