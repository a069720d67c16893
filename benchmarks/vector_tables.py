"""A database of its own with datasets of many segments, their vectors and their words.

The vectors are those of real passages (``benchmarks.manual``), and between two passages that
are near each other: clustered as the vectors of a corpus are. Vectors that were drawn by
chance are all equally far from each other, and say nothing of how well an index finds.
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from uuid import UUID, uuid4

import numpy as np
from numpy.typing import NDArray
from semantic_text_splitter import TextSplitter
from sqlalchemy import text
from sqlalchemy.orm import Session

from benchmarks.application import application
from benchmarks.manual import manual
from shared.models import db
from shared.submitting.dataset import ensure_dataset, ensure_tenant
from worker.providers.wordllama import WordLlamaEmbedder
from worker.services.dataset.words import count_words
from worker.stores import pgvector_copy
from worker.stores.vectors import VectorBatch, VectorPlace

MODEL = "l2_supercat_256"
SEGMENTS_A_DOCUMENT = 50
_PASSAGE_CHARACTERS = 1100
_NEIGHBOURS = 8

_DOCUMENTS = text("""
    INSERT INTO documents (
        id, tenant_id, dataset_id, position, name, data_source, source_key, doc_form, doc_metadata,
        indexing_status, active_version, total_segments, completed_segments, completed_at
    )
    SELECT u.id, datasets.tenant_id, datasets.id, :first + u.number, 'filling ' || u.number,
           'text', :first || '.' || u.number, 'text_model',
           jsonb_build_object('shelf', u.number % 1000), 'completed', :active, :segments,
           :segments, now()
    FROM datasets, unnest(CAST(:ids AS uuid[])) WITH ORDINALITY AS u(id, number)
    WHERE datasets.id = :dataset_id
""")
_PASSAGES = (
    "CREATE TABLE IF NOT EXISTS passages (number int PRIMARY KEY, content text)",
    """CREATE TABLE IF NOT EXISTS passage_words (
        dataset_id uuid, number int, words bigint[], frequencies smallint[], length int,
        PRIMARY KEY (dataset_id, number)
    )""",
)
# Which passage a filled vector was made of stands in the last four bytes of its id.
_NUMBER = "('x' || right(v.id::text, 8))::bit(32)::int"
_SEGMENTS = text(f"""
    INSERT INTO document_segments (
        id, tenant_id, dataset_id, document_id, version, position, content, word_count, tokens,
        index_node_hash
    )
    SELECT v.id, :tenant_id, v.dataset_id, v.document_id, 1,
           row_number() OVER (PARTITION BY v.document_id), p.content, 150, 250,
           encode(sha256(uuid_send(v.id)), 'hex')
    FROM segment_vectors v JOIN passages p ON p.number = {_NUMBER}
    WHERE v.document_id = ANY(CAST(:documents AS uuid[]))
""")
_WORDS = text(f"""
    INSERT INTO segment_keywords (
        segment_id, dataset_id, document_id, version, words, frequencies, length
    )
    SELECT v.id, v.dataset_id, v.document_id, 1, w.words, w.frequencies, w.length
    FROM segment_vectors v
    JOIN passage_words w ON w.number = {_NUMBER} AND w.dataset_id = v.dataset_id
    WHERE v.document_id = ANY(CAST(:documents AS uuid[]))
""")
_KEYWORDS_COUNTED = text("""
    UPDATE documents SET keyword_segments = :segments, keyword_words = 120 * :segments
    WHERE id = ANY(CAST(:documents AS uuid[]))
""")


@dataclass(frozen=True)
class Corpus:
    """Real passages, and as many vectors like theirs as are wanted."""

    passages: Sequence[str]

    @classmethod
    def of_manual(cls) -> "Corpus":
        """The passages of Python's manual."""
        splitter = TextSplitter(_PASSAGE_CHARACTERS)
        return cls([one for page in manual(7) for one in splitter.chunks(page.text)])

    @cached_property
    def vectors(self) -> NDArray[np.float32]:
        """The passages' own."""
        return WordLlamaEmbedder(MODEL).embed(self.passages).vectors

    @cached_property
    def _near(self) -> NDArray[np.intp]:
        nearest = np.argpartition(-self.vectors @ self.vectors.T, _NEIGHBOURS, axis=1)
        return nearest[:, :_NEIGHBOURS]

    def like(
        self, number: int, choose: np.random.Generator
    ) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Passages' numbers, and vectors between each and one of its neighbours, with noise."""
        first = choose.integers(len(self.passages), size=number)
        second = self._near[first, choose.integers(_NEIGHBOURS, size=number)]
        share = choose.random((number, 1), np.float32) * np.float32(0.5)
        mixed = (1 - share) * self.vectors[first] + share * self.vectors[second]
        scale = np.float32(0.4 / mixed.shape[1] ** 0.5)
        mixed += choose.standard_normal(mixed.shape, np.float32) * scale
        return first, mixed / np.linalg.norm(mixed, axis=1, keepdims=True)


@contextmanager
def database(**settings: str) -> Iterator[None]:
    """An application on a migrated database of its own; ``settings`` are PostgreSQL's."""
    with (
        tempfile.TemporaryDirectory() as folder,
        application(Path(folder), DB_STATEMENT_TIMEOUT_SECONDS="3600"),
    ):
        tune(**settings)
        yield


def tune(**settings: str) -> None:
    """Change settings of PostgreSQL that need no restart."""
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for name, value in settings.items():
            connection.execute(text(f"ALTER SYSTEM SET {name} = '{value}'"))
        connection.execute(text("SELECT pg_reload_conf()"))


def new_dataset(name: str) -> tuple[UUID, UUID]:
    """A tenant and an empty dataset of it."""
    with Session(db.engine) as session, session.begin():
        tenant_id = ensure_tenant(session, "bench")
        return tenant_id, ensure_dataset(session, tenant_id, name)


def new_documents(dataset_id: UUID, number: int, *, first: int, serving: bool = True) -> list[UUID]:
    """Documents without segments yet."""
    ids = [uuid4() for _ in range(number)]
    with Session(db.engine) as session, session.begin():
        values = {"dataset_id": dataset_id, "ids": list(map(str, ids)), "first": first}
        segments = SEGMENTS_A_DOCUMENT if serving else 0
        session.execute(
            _DOCUMENTS, {**values, "active": 1 if serving else None, "segments": segments}
        )
    return ids


def fill(corpus: Corpus, dataset_id: UUID, segments: int, seed: int, *, has_text: bool) -> None:
    """Add documents of ``SEGMENTS_A_DOCUMENT`` segments to a dataset, by SQL.

    With ``has_text`` the segments have rows and words of their passage, else vectors only.
    """
    choose = np.random.default_rng(seed)
    if has_text:
        _keep_passages(corpus, dataset_id)
    for start in range(0, segments // SEGMENTS_A_DOCUMENT, 200):
        number = min(200, segments // SEGMENTS_A_DOCUMENT - start)
        documents = new_documents(dataset_id, number, first=seed * 1_000_000 + start)
        _fill_documents(corpus, dataset_id, documents, choose)
        if has_text:
            _fill_texts(dataset_id, documents)


def _fill_documents(
    corpus: Corpus, dataset_id: UUID, documents: list[UUID], choose: np.random.Generator
) -> None:
    with db.engine.begin() as connection:
        for document_id in documents:
            numbers, vectors = corpus.like(SEGMENTS_A_DOCUMENT, choose)
            ids = [
                UUID(bytes=os.urandom(12) + int(number).to_bytes(4, "big")) for number in numbers
            ]
            place = VectorPlace(dataset_id, document_id, 1, 0, document_id, 1)
            copied = pgvector_copy.rows([VectorBatch(place, ids, vectors)])
            connection.execute(pgvector_copy.COPY, execution_options={"copied": copied})


def _fill_texts(dataset_id: UUID, documents: list[UUID]) -> None:
    values = {"documents": list(map(str, documents)), "segments": SEGMENTS_A_DOCUMENT}
    with db.engine.begin() as connection:
        tenant = text("SELECT tenant_id FROM datasets WHERE id = :id")
        values["tenant_id"] = connection.scalar(tenant, {"id": dataset_id})
        for statement in (_SEGMENTS, _WORDS, _KEYWORDS_COUNTED):
            connection.execute(statement, values)


def _keep_passages(corpus: Corpus, dataset_id: UUID) -> None:
    with db.engine.begin() as connection:
        for statement in _PASSAGES:
            connection.execute(text(statement))
        if connection.scalar(text("SELECT count(*) FROM passages")) == 0:
            connection.execute(
                text("INSERT INTO passages VALUES (:number, :content)"),
                [{"number": n, "content": one} for n, one in enumerate(corpus.passages)],
            )
        known = text("SELECT count(*) FROM passage_words WHERE dataset_id = :dataset_id")
        if connection.scalar(known, {"dataset_id": dataset_id}):
            return
        rows = [
            {
                "dataset_id": dataset_id,
                "number": number,
                "words": counts.numbers,
                "frequencies": counts.frequencies,
                "length": counts.length,
            }
            for number, one in enumerate(corpus.passages)
            for counts in (count_words(one, dataset_id),)
        ]
        connection.execute(
            text(
                "INSERT INTO passage_words"
                " VALUES (:dataset_id, :number, :words, :frequencies, :length)"
            ),
            rows,
        )
