"""The vector store protocol, for vectors that commit with their rows and for those that cannot.

PostgreSQL's rows are the truth in either case. Vectors are there before their rows say
so, and go after the rows have stopped saying so: ``send`` comes before the transaction,
``upsert``, ``activate`` and the deletions are part of it, ``collect`` comes at any time after.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID, uuid5

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class VectorPlace:
    """Which vectors are written, and by right of which claim.

    Attributes:
        generation: which of the dataset's indexes they are for.
        holder_id: the row whose lease is held: the document, its part in a rebuild, or
            the change of its segments.
        token: that lease's fencing token.
        is_whole: whether all vectors of the version are written; else those of some
            segments, to a version that serves already.
    """

    dataset_id: UUID
    document_id: UUID
    version: int
    generation: int
    holder_id: UUID
    token: int
    is_whole: bool = True


@dataclass(frozen=True, slots=True)
class VectorBatch:
    """Vectors of one version of one document.

    Attributes:
        ids: one a vector, its segment's; writing one again replaces its vector.
        vectors: shape (ids, dimension), float32, unit length.
    """

    place: VectorPlace
    ids: Sequence[UUID]
    vectors: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class VectorQuery:
    """A search of one index.

    Attributes:
        generation: which of the dataset's indexes.
        vector: the question's, unit length.
        limit: how many segments are wanted.
        documents: of which documents only; ``None`` for all.
        is_exact: whether a store that guesses which vectors are near must look at all of them.
    """

    dataset_id: UUID
    generation: int
    vector: NDArray[np.float32]
    limit: int
    documents: Sequence[UUID] | None = None
    is_exact: bool = False


@dataclass(frozen=True, slots=True)
class Match:
    """A segment that a search found; ``score`` is the cosine, at most 1."""

    id: UUID
    score: float


@dataclass(frozen=True, slots=True)
class Hit(Match):
    """What an external store found: nothing says yet that it still counts.

    Attributes:
        point_id: its own id in that store.
    """

    write_id: UUID
    point_id: UUID


@dataclass(frozen=True, slots=True)
class Asked:
    """An external store's answer; a store in the database is not asked before its transaction.

    Attributes:
        wanted: how many hits it was asked for; as many as it has, when there are fewer.
        seen: writes, and single points of others, that were found not to count, up to here.
    """

    hits: Sequence[Hit] = ()
    wanted: int = 0
    seen: frozenset[UUID] = frozenset()


@dataclass(frozen=True, slots=True)
class Found:
    """Matches, best first.

    Attributes:
        again: what to ask the store with for a better answer; ``None`` when this is the best.
    """

    matches: list[Match]
    again: Asked | None = None


@dataclass(frozen=True, slots=True)
class Orphans:
    """Vectors that no row stands for, in one step of a search for them.

    Attributes:
        number: how many vectors.
        next_after: where the next step begins; ``None`` when this was the last.
    """

    number: int
    next_after: str | None


class VectorStore(Protocol):
    """Where vectors live. Search sees the active version of enabled documents only.

    Disabled segments are left out inside the search, so that it gives as many as asked for.
    """

    @property
    def name(self) -> str:
        """What rows and VECTOR_STORE call it."""

    @property
    def is_external(self) -> bool:
        """Whether it is outside of the database."""

    def check(self) -> None:
        """Ask whether it answers.

        Raises:
            ServiceUnavailable: (transient) it does not.
            Permanent: it refuses.
        """

    def send(self, batch: VectorBatch) -> None:
        """Write a batch ahead of its rows; in no transaction. For stores outside of the database.

        Raises:
            ServiceUnavailable: (transient) the store does not answer.
        """

    def upsert(self, session: Session, *batches: VectorBatch) -> None:
        """Write batches with their rows, where the store is in the database.

        Elsewhere it was sent; where it is not a version's whole, search sees it from this
        transaction on.
        """

    def activate(self, session: Session, place: VectorPlace) -> None:
        """Let search see what was written, in the transaction that makes the version active.

        What else was written for that version and index is seen no longer.
        """

    def delete_other_versions(self, session: Session, document_id: UUID, keep: int | None) -> None:
        """Delete the document's vectors of every version but ``keep``, of every generation."""

    def delete_other_generations(
        self, session: Session, document_ids: Sequence[UUID], keep: Sequence[int], limit: int
    ) -> int:
        """Delete at most ``limit`` of the documents' vectors of any generation but ``keep``.

        Returns:
            How many; fewer than ``limit`` when none is left.
        """

    def fetch(
        self,
        session: Session,
        document_id: UUID,
        version: int,
        generation: int,
        ids: Sequence[UUID],
    ) -> dict[UUID, NDArray[np.float32]]:
        """The vectors of these segments of an active version, those that exist.

        An external store ends the session's transaction before it asks: have nothing
        unwritten in it.
        """

    def carry(self, session: Session, place: VectorPlace, sources: Mapping[UUID, UUID]) -> int:
        """Take over the vectors of other segments of the document, for a store in the database.

        Args:
            session: the transaction of the new rows.
            place: of the new vectors; the others are of the same generation.
            sources: whose each new one is, by the new one's segment.

        Returns:
            How many there were.
        """

    def count(self, session: Session, document_id: UUID, version: int, generation: int) -> int:
        """How many vectors an active version of a document has in an index.

        An external store ends the session's transaction before it asks, as in ``fetch``.

        Raises:
            ServiceUnavailable: (transient) the store does not answer.
        """

    def missing(
        self,
        session: Session,
        document_id: UUID,
        version: int,
        generation: int,
        ids: Sequence[UUID],
    ) -> set[UUID]:
        """Those of these segments of an active version that have no vector.

        An external store ends the session's transaction before it asks.

        Raises:
            ServiceUnavailable: (transient) the store does not answer.
        """

    def orphans(self, session: Session, after: str | None, *, deletes: bool) -> Orphans:
        """Find vectors that no row stands for, a step at a time, in the caller's transaction.

        Args:
            session: the caller's.
            after: where to begin; ``None`` is the beginning.
            deletes: whether they go; else they are counted.

        Raises:
            ServiceUnavailable: (transient) the store does not answer.
        """

    def ask(self, query: VectorQuery, again: Asked | None = None) -> Asked:
        """What an external store has to say, before the transaction of ``search``.

        Args:
            query: the search.
            again: of the answer before, when that was not good enough.

        Raises:
            ServiceUnavailable: (transient) the store does not answer.
        """

    def search(self, session: Session, query: VectorQuery, asked: Asked) -> Found:
        """The nearest segments of an index, as the transaction sees it."""

    def collect(self) -> int:
        """Delete from an external store what no row stands for any more; safe to repeat.

        Returns:
            How many leavings of writes there were.

        Raises:
            ServiceUnavailable: (transient) the store does not answer.
        """


def vector_id(generation: int, segment_id: UUID) -> UUID:
    """The id of a segment's vector in an index; in a dataset's first it is the segment's own."""
    return segment_id if generation == 0 else uuid5(segment_id, str(generation))
