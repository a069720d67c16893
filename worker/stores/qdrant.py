"""Vectors in Qdrant: outside of the database, so that rows say which of them count.

One collection a dimension holds all datasets: a collection costs memory and files, and
there are many small datasets. Each search names its index, the payload field Qdrant
lays the vectors out by.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID, uuid5

import numpy as np
from numpy.typing import NDArray
from qdrant_client import QdrantClient, models
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from shared.errors import SubjectGone
from worker.stores import vector_points, vector_writes
from worker.stores.qdrant_collections import Collections
from worker.stores.qdrant_filters import filter_of, index_name, where
from worker.stores.qdrant_orphans import page_of_writes, present
from worker.stores.vectors import (
    Asked,
    Found,
    Hit,
    Match,
    Orphans,
    VectorBatch,
    VectorPlace,
    VectorQuery,
)

#: Points a request: 3,072 dimensions as JSON stay below Qdrant's 32 MB.
_POINTS = 256
#: Asked for beyond what is wanted: what does not count any more takes places among the best.
_SPARE = 16
_MOST_HITS = 10_000
#: Writes deleted by one request.
_SWEEP = 100
#: Points deleted by one request, of writes that stay.
_SWEEP_POINTS = 1000
#: After this a request that was under way when its writer lost its lease has arrived or never will.
_SWEEP_AGAIN_SECONDS = 3600.0


class QdrantVectorStore:
    """The ``VectorStore`` over Qdrant.

    Args:
        client: the server, or a folder's or memory's local mode.
        sessions: makes sessions, for the ledger.
        prefix: collections are called by it and their dimension.
        is_local: local mode has no payload indexes.
    """

    name = "qdrant"
    is_external = True

    def __init__(
        self,
        client: QdrantClient,
        sessions: sessionmaker[Session],
        prefix: str = "rag_worker",
        *,
        is_local: bool = False,
    ) -> None:
        self._client = client
        self._sessions = sessions
        # Local mode knows no other way, and warns of being told.
        self._exactly = None if is_local else models.SearchParams(exact=True)
        self._collections = Collections(client, prefix, is_local=is_local)

    def check(self) -> None:
        """Ask whether it answers, and takes the key."""
        self._collections.dimensions()

    def send(self, batch: VectorBatch) -> None:
        """Write a batch ahead of its rows; in no transaction."""
        dimension = int(batch.vectors.shape[1])
        write = vector_writes.write_id(batch.place)
        try:
            with self._sessions.begin() as session:
                vector_writes.note(session, batch.place, dimension)
                if not batch.place.is_whole:
                    vector_points.note(session, write, batch.ids)
        except IntegrityError as error:
            raise SubjectGone(f"document {batch.place.document_id} was deleted") from error
        self._collections.make(dimension)
        payload = {"index": index_name(batch.place.dataset_id, batch.place.generation)}
        payload |= {"document_id": str(batch.place.document_id), "write_id": str(write)}
        for start in range(0, len(batch.ids), _POINTS):
            ids = batch.ids[start : start + _POINTS]
            points = models.Batch(
                ids=[str(_point(write, one)) for one in ids],
                vectors=batch.vectors[start : start + _POINTS].tolist(),
                payloads=[{**payload, "segment_id": str(one)} for one in ids],
            )
            # Waiting: the rows must not say so before a search would find them.
            self._collections.call(self._client.upsert, dimension, points=points, wait=True)

    def upsert(self, session: Session, *batches: VectorBatch) -> None:
        """``send`` has written them; of a whole version ``activate`` says so, here of a part."""
        for batch in batches:
            if not batch.place.is_whole:
                vector_writes.serve(session, batch.place)
                vector_points.serve(session, vector_writes.write_id(batch.place), batch.ids)

    def activate(self, session: Session, place: VectorPlace) -> None:
        """Let search see what was written."""
        vector_writes.activate(session, place)

    def delete_other_versions(self, session: Session, document_id: UUID, keep: int | None) -> None:
        """Search sees them no longer from the commit on; ``collect`` deletes them."""
        vector_writes.retire_versions(session, document_id, keep)

    def delete_other_generations(
        self,
        session: Session,
        document_ids: Sequence[UUID],
        keep: Sequence[int],
        limit: int,  # noqa: ARG002 - a row a document, not one a vector
    ) -> int:
        """Give them up; ``collect`` deletes them."""
        vector_writes.retire_generations(session, document_ids, keep)
        return 0

    def fetch(
        self,
        session: Session,
        document_id: UUID,
        version: int,
        generation: int,
        ids: Sequence[UUID],
    ) -> dict[UUID, NDArray[np.float32]]:
        """The vectors of these segments, those that exist; ends the session's transaction."""
        located = vector_points.locate(session, document_id, version, generation, ids)
        session.commit()
        vectors: dict[UUID, NDArray[np.float32]] = {}
        for dimension in filter(self._collections.exists, {one.dimension for one in located}):
            by_point = {
                str(_point(one.write_id, one.vector_id)): one.vector_id
                for one in located
                if one.dimension == dimension
            }
            points = self._collections.call(
                self._client.retrieve,
                dimension,
                ids=list(by_point),
                with_payload=False,
                with_vectors=True,
            )
            vectors |= {by_point[str(one.id)]: np.array(one.vector, np.float32) for one in points}
        return vectors

    def carry(self, session: Session, place: VectorPlace, sources: Mapping[UUID, UUID]) -> int:  # noqa: ARG002
        """None: vectors are fetched, and sent again in their new version's write."""
        return 0

    def count(self, session: Session, document_id: UUID, version: int, generation: int) -> int:
        """How many vectors the writes of an active version hold; ends the session's transaction."""
        writes = vector_writes.live(session, document_id, version, generation)
        session.commit()
        return sum(
            self._collections.call(
                self._client.count,
                dimension,
                count_filter=where(write_id=[str(write)]),
                exact=True,
            ).count
            for write, dimension in writes
            if self._collections.exists(dimension)
        )

    def missing(
        self,
        session: Session,
        document_id: UUID,
        version: int,
        generation: int,
        ids: Sequence[UUID],
    ) -> set[UUID]:
        """Those of these segments that have no vector; ends the session's transaction."""
        located = vector_points.locate(session, document_id, version, generation, ids)
        session.commit()
        found = set[UUID]()
        for dimension in {one.dimension for one in located}:
            by_point = {
                str(_point(one.write_id, one.vector_id)): one.vector_id
                for one in located
                if one.dimension == dimension
            }
            there = present(self._collections, self._client, dimension, list(by_point))
            found |= {by_point[one] for one in there}
        return set(ids) - found

    def orphans(self, session: Session, after: str | None, *, deletes: bool) -> Orphans:
        """Find points of writes that the ledger does not know, a page of a collection at a time."""
        page = page_of_writes(self._collections, self._client, after)
        gone = vector_writes.unknown(session, set(page.writes))
        if gone and deletes:
            chosen = where(write_id=[str(one) for one in gone])
            self._delete(page.dimension, models.FilterSelector(filter=chosen))
        return Orphans(sum(one in gone for one in page.writes), page.next_after)

    def ask(self, query: VectorQuery, again: Asked | None = None) -> Asked:
        """The nearest points of an index, whether they still count or not."""
        wanted = query.limit + _SPARE
        if again is not None:
            wanted = again.wanted
        dimension = len(query.vector)
        if not self._collections.exists(dimension):
            return Asked()
        answer = self._collections.call(
            self._client.query_points,
            dimension,
            query=query.vector.tolist(),
            query_filter=filter_of(query),
            search_params=self._exactly if query.is_exact else None,
            limit=min(wanted, _MOST_HITS),
            with_payload=["segment_id", "write_id"],
        )
        hits = [_hit(point) for point in answer.points]
        return Asked(hits, wanted, again.seen if again is not None else frozenset())

    def search(self, session: Session, query: VectorQuery, asked: Asked) -> Found:
        """Those of the points that count, as the transaction sees it.

        What counted when the store was asked and does not now has had a successor
        since, which the answer may lack: then it is better to ask again.
        """
        standing = vector_writes.standing(session, asked.hits, query.documents)
        matches = [Match(hit.id, hit.score) for hit in standing.matching]
        gone, counted = standing.gone, standing.counted
        # One that did not count before and does now was perhaps not yet whole when asked.
        is_settled = gone <= asked.seen and not (counted & asked.seen)
        has_more = len(asked.hits) >= min(asked.wanted, _MOST_HITS) > 0
        lacks = len(matches) < query.limit and has_more and asked.wanted < _MOST_HITS
        if is_settled and not lacks:
            return Found(matches[: query.limit])
        wanted = min(asked.wanted * 4, _MOST_HITS) if lacks else asked.wanted
        return Found(matches[: query.limit], Asked((), wanted, (asked.seen | gone) - counted))

    def collect(self) -> int:
        """Delete what neither search nor a running claim needs; safe to repeat."""
        return self._collect_writes() + self._collect_points()

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def _collect_writes(self) -> int:
        collected = 0
        while True:
            with self._sessions() as session:
                unused = vector_writes.unused(session, _SWEEP_AGAIN_SECONDS, _SWEEP)
            for dimension, writes in _by_dimension((row[1], str(row[0])) for row in unused):
                self._delete(dimension, models.FilterSelector(filter=where(write_id=writes)))
            with self._sessions.begin() as session:
                vector_writes.swept(
                    session,
                    once=[row[0] for row in unused if not row[2]],
                    twice=[row[0] for row in unused if row[2]],
                )
            collected += len(unused)
            if len(unused) < _SWEEP:
                return collected

    def _collect_points(self) -> int:
        collected = 0
        while True:
            with self._sessions() as session:
                unused = vector_points.unused(session, _SWEEP_AGAIN_SECONDS, _SWEEP_POINTS)
            points = ((one.dimension, str(_point(one.write_id, one.vector_id))) for one in unused)
            for dimension, ids in _by_dimension(points):
                self._delete(dimension, models.PointIdsList(points=[*ids]))
            with self._sessions.begin() as session:
                vector_points.swept(session, unused)
            collected += len(unused)
            if len(unused) < _SWEEP_POINTS:
                return collected

    def _delete(self, dimension: int, chosen: models.FilterSelector | models.PointIdsList) -> None:
        if self._collections.exists(dimension):
            self._collections.call(
                self._client.delete, dimension, points_selector=chosen, wait=True
            )


def _by_dimension(chosen: Iterable[tuple[int, str]]) -> Iterable[tuple[int, list[str]]]:
    collected: dict[int, list[str]] = defaultdict(list)
    for dimension, one in chosen:
        collected[dimension].append(one)
    return collected.items()


def _point(write: UUID, segment_id: UUID) -> UUID:
    return uuid5(write, segment_id.hex)


def _hit(point: models.ScoredPoint) -> Hit:
    payload: Any = point.payload
    segment, write = UUID(payload["segment_id"]), UUID(payload["write_id"])
    return Hit(segment, point.score, write, UUID(str(point.id)))
