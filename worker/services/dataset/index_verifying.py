"""A new index is compared with what it is made of, before search uses it.

Each document's vectors are looked for one by one, and counted; then random segments are
searched for in both indexes. What is changed meanwhile is done anew, and compared again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from shared.errors import MigrationUnverified
from worker.delivery import runs
from worker.services.dataset.index_needs import Build, IndexNeeds
from worker.services.dataset.index_sampling import compare_searches
from worker.services.dataset.index_texts import embedded_texts

_DOCUMENTS = 100
_IDS = 1000
#: Looks at a document before its vectors are said to be wrong: it may be changed by hand.
_LOOKS = 3
_NOBODY = UUID(int=0)

# A document that has another version meanwhile, or was changed, gets its part anew.
_UNVERIFIED = """
    FROM index_build_documents AS part
    JOIN documents AS document
      ON document.id = part.document_id AND document.active_version = part.version
    WHERE part.build_id = :build_id AND part.status = 'completed'
      AND part.verified_token IS DISTINCT FROM part.lease_token
"""
_PAGE = text(f"""
    SELECT part.id, part.document_id, part.version, part.lease_token AS token, document.doc_form
    {_UNVERIFIED} AND part.document_id > :after
    ORDER BY part.document_id LIMIT :limit
""")
_IS_LEFT = text(f"SELECT EXISTS (SELECT {_UNVERIFIED})")
_VERIFIED = text("""
    UPDATE index_build_documents SET verified_token = :token, vectors = :vectors
    WHERE id = :id AND lease_token = :token AND status = 'completed'
""")
_SAME = text("""
    SELECT EXISTS (
        SELECT FROM index_build_documents AS part
        JOIN documents AS document
          ON document.id = part.document_id AND document.active_version = part.version
        WHERE part.id = :id AND part.lease_token = :token AND part.status = 'completed'
    )
""")


@dataclass(frozen=True, slots=True)
class _Counted:
    """A document's texts, and the vectors that the new index has of them."""

    texts: int
    missing: int
    vectors: int

    @property
    def is_whole(self) -> bool:
        return not self.missing and self.vectors == self.texts


def verify(build: Build, needs: IndexNeeds) -> None:
    """Compare a migration's new index with the rows, and with the index in use.

    What was compared is not compared again by the next one to try, after a death.

    Raises:
        MigrationUnverified: (permanent) they differ; says in what.
        ServiceUnavailable: (transient) a vector store does not answer.
    """
    for part in _unverified(build, needs):
        runs.checkpoint()
        _verify_document(part, build, needs)
    compare_searches(build, needs)


def is_verified(session: Session, build: Build) -> bool:
    """Whether nothing was changed since it was compared; of any other change that is no matter."""
    if build.samples is None:
        return True
    return not session.scalar(_IS_LEFT, {"build_id": build.id})


def _unverified(build: Build, needs: IndexNeeds) -> Iterator[Row[Any]]:
    after = _NOBODY
    while True:
        values = {"build_id": build.id, "after": after, "limit": _DOCUMENTS}
        with needs.sessions() as session:
            page = session.execute(_PAGE, values).all()
        yield from page
        if len(page) < _DOCUMENTS:
            return
        after = page[-1].document_id


def _verify_document(part: Row[Any], build: Build, needs: IndexNeeds) -> None:
    for _ in range(_LOOKS):
        found = _count(part, build, needs)
        values = {"id": part.id, "token": part.token}
        with needs.sessions.begin() as session:
            if found.is_whole:
                session.execute(_VERIFIED, values | {"vectors": found.vectors})
                return
            if not session.scalar(_SAME, values):
                return
        # What was replaced by hand may still lie there.
        needs.vectors.at(build.vector_store).collect()
    raise MigrationUnverified(_difference(part, found, build, needs))


def _count(part: Row[Any], build: Build, needs: IndexNeeds) -> _Counted:
    store = needs.vectors.at(build.vector_store)
    place = (part.document_id, part.version, build.generation)
    texts = missing = 0
    for page in embedded_texts(needs.sessions, *place[:2], part.doc_form, _IDS):
        texts += len(page)
        with needs.sessions() as session:
            missing += len(store.missing(session, *place, [one.id for one in page]))
    with needs.sessions() as session:
        return _Counted(texts, missing, store.count(session, *place))


def _difference(part: Row[Any], found: _Counted, build: Build, needs: IndexNeeds) -> str:
    old, new = needs.vectors.at(build.source.vector_store), needs.vectors.at(build.vector_store)
    with needs.sessions() as session:
        place = (part.document_id, part.version, build.source.generation)
        before = old.count(session, *place)
    return (
        f"document {part.document_id} has {found.texts} texts, {before} vectors in the index in "
        f"use ({old.name}) and {found.vectors} in the new one ({new.name}), where {found.missing} "
        "are missing: search goes on with the old ones; migrate again"
    )
