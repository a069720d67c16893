"""What the version that serves has already: looked up by content, carried over by id."""

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy.orm import Session

from shared.models.process_rule import DocForm
from worker.services.dataset import child_chunks, segments
from worker.services.dataset.claiming import Job
from worker.services.dataset.embedding import EmbeddedPassage, Known, Lookup
from worker.services.dataset.fingerprints import is_of_this_code
from worker.services.dataset.needs import IndexingNeeds
from worker.services.dataset.segments import StoredSegment


def vectors_by_content(needs: IndexingNeeds, job: Job) -> Lookup:
    """What is known of the active version's embedded texts, their vectors fetched."""
    table = child_chunks if job.doc_form == DocForm.HIERARCHICAL else segments

    def look(hashes: Sequence[str]) -> dict[str, Known]:
        if job.active_version is None or not job.has_vectors:
            return {}
        place = (job.document_id, job.active_version)
        with needs.sessions() as session:
            stored = table.by_hash(session, *place, hashes)
            ids = [one.id for one in stored.values()]
            store = needs.vectors.at(job.vector_store)
            vectors = store.fetch(session, *place, job.generation, ids)
        return {
            digest: Known(vectors[one.id], one.tokens)
            for digest, one in stored.items()
            if one.id in vectors
        }

    return look


class Serving:
    """Looks into the active version of a document, which changes by hand only while a run lasts."""

    def __init__(self, needs: IndexingNeeds, job: Job) -> None:
        self._needs = needs
        self._job = job
        self._is_of_this_code = is_of_this_code(job)
        #: What was asked for of the batch at hand.
        self._seen: dict[str, StoredSegment | None] = {}

    def known(self, hashes: Sequence[str]) -> dict[str, Known]:
        """What is known of texts that are embedded: those of segments, or of children.

        Without their vectors, where the store can carry them over.
        """
        job = self._job
        vectors = self._needs.vectors.at(job.vector_store)
        if vectors.is_external:
            return vectors_by_content(self._needs, job)(hashes)
        if job.active_version is None or not job.has_vectors:
            return {}
        place = (job.document_id, job.active_version, job.generation)
        with self._needs.sessions() as session:
            if job.doc_form == DocForm.HIERARCHICAL:
                stored = child_chunks.by_hash(session, *place[:2], hashes)
            else:
                stored = self._segments(session, hashes)
            missing = vectors.missing(session, *place, [one.id for one in stored.values()])
        return {
            digest: Known(None, one.tokens, one.id)
            for digest, one in stored.items()
            if one.id not in missing
        }

    def stored(self, embedded: Sequence[EmbeddedPassage]) -> dict[str, StoredSegment]:
        """Segments that have the contents of a batch, by its hash, to be carried over.

        Words that other code has counted are not.
        """
        if self._job.active_version is None:
            return {}
        with self._needs.sessions() as session:
            found = self._segments(session, [one.content_hash for one in embedded])
        self._seen = {}
        if self._is_of_this_code:
            return found
        return {digest: replace(one, length=None) for digest, one in found.items()}

    def _segments(self, session: Session, hashes: Sequence[str]) -> dict[str, StoredSegment]:
        job, unseen = self._job, [one for one in hashes if one not in self._seen]
        if unseen and job.active_version is not None:
            found = segments.by_hash(session, job.document_id, job.active_version, unseen)
            self._seen |= {digest: found.get(digest) for digest in unseen}
        seen = ((digest, self._seen.get(digest)) for digest in hashes)
        return {digest: one for digest, one in seen if one is not None}
