"""Documents whose vectors a test writes as the indexing run does: send, then rows, then switch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID, uuid4

import numpy as np
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from shared.models import Document
from shared.submitting.segment_switches import remove_segments, remove_vectors
from tests.fixtures.mysql_server import runs_on_mysql
from worker.delivery.lease import Lease, claim, release
from worker.stores.vectors import (
    Asked,
    Found,
    VectorBatch,
    VectorPlace,
    VectorQuery,
    VectorStore,
)

_NEW = text("""
    INSERT INTO documents (
        id, tenant_id, dataset_id, position, name, data_source, source_key, doc_form, doc_metadata
    )
    SELECT :id, tenant_id, id, :position, 'a', 'text', :key, 'text_model', '{}'
    FROM datasets WHERE id = :dataset_id
""")
_NEW_SEGMENT = text("""
    INSERT INTO document_segments (
        id, tenant_id, dataset_id, document_id, version, position, content, word_count, tokens,
        index_node_hash
    )
    SELECT :id, tenant_id, dataset_id, id, :version, :position, '', 0, 0, ''
    FROM documents WHERE id = :document_id
    ON CONFLICT (id) DO NOTHING
""")


def unit(*components: float) -> np.ndarray:
    vector = np.array(components, np.float32)
    return vector / np.linalg.norm(vector)


@dataclass
class Shelf:
    """One dataset in one store.

    Attributes:
        stored: counts the vectors that are physically there, whether they count or not.
    """

    store: VectorStore
    sessions: sessionmaker[Session]
    dataset_id: UUID
    stored: Callable[[], int]
    positions: int = 0
    leases: dict[UUID, Lease] = field(default_factory=dict)

    def document(self, dataset_id: UUID | None = None) -> UUID:
        document_id, self.positions = uuid4(), self.positions + 1
        values = {"id": document_id, "dataset_id": dataset_id or self.dataset_id}
        with self.sessions.begin() as session:
            values |= {"position": self.positions, "key": str(document_id)}
            session.execute(_NEW, values)
        return document_id

    def change(self, statement: str, **values: object) -> None:
        with self.sessions.begin() as session:
            session.execute(text(statement), values)

    def change_table(self, statement: str, **values: object) -> None:
        """Change the table of pgvector's vectors, where the database has one."""
        if not runs_on_mysql():
            self.change(statement, **values)

    def claim(
        self,
        document_id: UUID,
        version: int = 1,
        generation: int = 0,
        dataset_id: UUID | None = None,
    ) -> VectorPlace:
        """The next worker takes the document, whoever has it."""
        self.change("UPDATE documents SET lease_expires_at = NULL WHERE id = :id", id=document_id)
        with self.sessions.begin() as session:
            lease = claim(session, Document, document_id, 600)
        assert lease is not None
        self.leases[document_id] = lease
        dataset = dataset_id or self.dataset_id
        return VectorPlace(dataset, document_id, version, generation, document_id, lease.token)

    def write(self, place: VectorPlace, ids: Sequence[UUID], *vectors: np.ndarray) -> None:
        batch = VectorBatch(place, ids, np.stack(vectors))
        self.store.send(batch)
        with self.sessions.begin() as session:
            self._write_rows(session, place, ids)
            self.store.upsert(session, batch)

    def delete_segments(self, document_id: UUID, *ids: UUID) -> None:
        with self.sessions.begin() as session:
            remove_segments(session, document_id, ids)

    def _write_rows(self, session: Session, place: VectorPlace, ids: Sequence[UUID]) -> None:
        for one in ids:
            self.positions += 1
            values = {
                "id": one,
                "document_id": place.document_id,
                "version": place.version,
                "position": self.positions,
            }
            session.execute(_NEW_SEGMENT, values)

    def switch(self, place: VectorPlace) -> None:
        with self.sessions.begin() as session:
            release(
                session,
                self.leases[place.document_id],
                index_version=place.version,
                active_version=place.version,
            )
            self.store.activate(session, place)
            self.store.delete_other_versions(session, place.document_id, place.version)

    def put(
        self, document_id: UUID, *vectors: np.ndarray, version: int = 1, generation: int = 0
    ) -> list[UUID]:
        """Make a version of the document searchable, whole."""
        ids = [uuid4() for _ in vectors]
        place = self.claim(document_id, version, generation)
        self.write(place, ids, *vectors)
        self.switch(place)
        return ids

    def part(self, document_id: UUID, ids: Sequence[UUID], *vectors: np.ndarray) -> VectorBatch:
        """Vectors of segments of the version that serves, sent but not yet written."""
        place = replace(self.claim(document_id), is_whole=False)
        batch = VectorBatch(place, ids, np.stack(vectors))
        self.store.send(batch)
        return batch

    def change_segments(self, batch: VectorBatch) -> None:
        """Give segments these vectors in the place of theirs."""
        with self.sessions.begin() as session:
            release(session, self.leases[batch.place.document_id])
            self._write_rows(session, batch.place, batch.ids)
            remove_vectors(session, batch.place.document_id, batch.ids)
            self.store.upsert(session, batch)

    def query(self, vector: np.ndarray, limit: int = 5, generation: int = 0) -> VectorQuery:
        return VectorQuery(self.dataset_id, generation, vector, limit)

    def check(self, query: VectorQuery, asked: Asked) -> Found:
        with self.sessions() as session:
            return self.store.search(session, query, asked)

    def search(self, vector: np.ndarray, limit: int = 5, generation: int = 0) -> list[UUID]:
        query = self.query(vector, limit, generation)
        found = self.check(query, self.store.ask(query))
        while found.again is not None:
            found = self.check(query, self.store.ask(query, found.again))
        return [match.id for match in found.matches]

    def fetch(self, document_id: UUID, version: int, *ids: UUID, generation: int = 0) -> dict:
        with self.sessions() as session:
            return self.store.fetch(session, document_id, version, generation, ids)
