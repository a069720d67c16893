"""A batch of passages becomes rows: written, or carried over from the version that serves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.orm import Session

from shared.errors import SegmentsChanged
from worker.services.dataset import child_chunks, keywords, segments, vector_batches
from worker.services.dataset.claiming import Job
from worker.services.dataset.embedding import EmbeddedPassage
from worker.services.dataset.needs import IndexingNeeds
from worker.services.dataset.segments import StoredSegment
from worker.services.dataset.words import WordCounts

#: Segments of the serving version by content hash.
Stored = Mapping[str, StoredSegment]


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive passages.

    Attributes:
        first_position: the first one's in the document.
        stored: whose contents and words are taken over.
        words: of each passage, or how many the one in ``stored`` has; ``None`` where no
            keywords are kept.
    """

    first_position: int
    embedded: Sequence[EmbeddedPassage]
    stored: Stored
    words: Sequence[WordCounts | int] | None

    @property
    def lengths(self) -> list[int]:
        """Words of each passage."""
        return [one if isinstance(one, int) else one.length for one in self.words or ()]


def words_of(
    job: Job, embedded: Sequence[EmbeddedPassage], stored: Stored
) -> list[WordCounts | int]:
    """The words of passages, counted where they are not known; takes processor time."""
    found = [stored.get(one.content_hash) for one in embedded]
    lengths = [None if one is None else one.length for one in found]
    new = [
        one.passage.text for one, length in zip(embedded, lengths, strict=True) if length is None
    ]
    counted = iter(keywords.count(new, job.dataset_id))
    return [next(counted) if length is None else length for length in lengths]


def write(session: Session, needs: IndexingNeeds, job: Job, batch: Batch) -> int:
    """Write segments, their words and children, and all vectors; the document is locked.

    Returns:
        The dimension of the vectors, 0 when none was made.

    Raises:
        SegmentsChanged: (transient) what was to be carried over is not there any more.
    """
    ids = vector_batches.segment_ids(job, batch.first_position, batch.embedded)
    _write_segments(session, job, batch, ids)
    if batch.words is not None:
        _write_words(session, job, batch, ids)
    children = list(child_chunks.children_of(ids, batch.embedded))
    if children:
        child_chunks.write(session, job.owner, children)
    if not job.has_vectors:
        return 0
    store = needs.vectors.at(job.vector_store)
    sources = vector_batches.sources_of(ids, batch.embedded, children)
    if sources:
        _require_all(store.carry(session, job.place, sources), len(sources))
    new = vector_batches.vectors_of(job, ids, batch.embedded, children)
    if new.ids:
        store.upsert(session, new)
    return int(new.vectors.shape[1])


def _write_segments(session: Session, job: Job, batch: Batch, ids: Sequence[UUID]) -> None:
    rows = list(zip(range(batch.first_position, batch.first_position + len(ids)), ids, strict=True))
    numbered = list(zip(rows, batch.embedded, strict=True))
    new = [one for one in numbered if one[1].content_hash not in batch.stored]
    old = [one for one in numbered if one[1].content_hash in batch.stored]
    if new:
        positions, new_ids = zip(*(row for row, _ in new), strict=True)
        segments.write(session, job.owner, positions, new_ids, [one for _, one in new])
    if old:
        positions, old_ids = zip(*(row for row, _ in old), strict=True)
        embedded = [one for _, one in old]
        sources = [batch.stored[one.content_hash].id for one in embedded]
        carried = segments.carry(session, job.owner, positions, old_ids, embedded, sources)
        _require_all(carried, len(old))


def _write_words(session: Session, job: Job, batch: Batch, ids: Sequence[UUID]) -> None:
    pairs = list(zip(ids, batch.words or (), strict=True))
    counted = [(one_id, one) for one_id, one in pairs if isinstance(one, WordCounts)]
    keywords.write(
        session, job.owner, [one_id for one_id, _ in counted], [one for _, one in counted]
    )
    sources = {
        one_id: (batch.stored[one.content_hash].id, length)
        for (one_id, length), one in zip(pairs, batch.embedded, strict=True)
        if isinstance(length, int) and length
    }
    if sources:
        _require_all(keywords.carry(session, job.owner, sources), len(sources))


def _require_all(carried: int, wanted: int) -> None:
    if carried != wanted:
        raise SegmentsChanged
