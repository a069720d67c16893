"""Passages whose questions are to be written: rows, and works for the generation queue."""

import hashlib
from collections.abc import Mapping, Sequence
from uuid import UUID, uuid4

from celery import Celery
from sqlalchemy import delete, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from shared.models import GenerationKind, GenerationWork, PassagePairs
from shared.models.generation import ERROR
from shared.submitting.generation import announce_works

Pairs = list[tuple[str, str]]

_LET_GO = text("""
    UPDATE passage_pairs SET work_id = NULL
    WHERE document_id = :document_id AND pairs IS NULL AND work_id = ANY(CAST(:ids AS uuid[]))
""")


def passage_hash(passage: str) -> str:
    """What a passage is found by again."""
    return hashlib.sha256(passage.encode()).hexdigest()


def written_pairs(
    session: Session, document_id: UUID, hashes: Sequence[str]
) -> Mapping[str, Pairs]:
    """The pairs that are there already, by the passage's hash."""
    query = select(PassagePairs.passage_hash, PassagePairs.pairs).where(
        PassagePairs.document_id == document_id,
        PassagePairs.passage_hash.in_(hashes),
        PassagePairs.pairs.is_not(None),
    )
    return {
        row.passage_hash: [(question, answer) for question, answer in row.pairs]
        for row in session.execute(query)
    }


def request_pairs(
    session: Session,
    tenant_id: UUID,
    document_id: UUID,
    passages: Mapping[str, str],
    *,
    celery: Celery | None = None,
) -> None:
    """Have pairs written for passages, by their hash; those under way are left alone.

    Args:
        session: the caller's transaction.
        tenant_id: whose document.
        document_id: which one; it is announced again when all are written.
        passages: texts by hash.
        celery: publishes right after the commit; without it a worker's relay does.
    """
    work = GenerationWork(id=uuid4(), tenant_id=tenant_id, kind=GenerationKind.QA_PAIRS)
    work.subject_id, work.document_id = work.id, document_id
    rows = [
        {"document_id": document_id, "passage_hash": digest, "passage": passage, "work_id": work.id}
        for digest, passage in sorted(passages.items())
    ]
    query = insert(PassagePairs).values(rows)
    written = query.on_conflict_do_update(
        index_elements=["document_id", "passage_hash"],
        set_={"passage": query.excluded.passage, "work_id": query.excluded.work_id},
        where=PassagePairs.work_id.is_(None) & PassagePairs.pairs.is_(None),
    ).returning(PassagePairs.passage_hash)
    if session.scalars(written).all():
        session.add(work)
        session.flush()
        announce_works(session, [work], celery=celery)


def take_failures(session: Session, document_id: UUID) -> list[str]:
    """Why works of a document ended as error; they are forgotten, so that a retry starts over."""
    failed = session.execute(
        delete(GenerationWork)
        .where(
            GenerationWork.document_id == document_id,
            GenerationWork.kind == GenerationKind.QA_PAIRS,
            GenerationWork.status == ERROR,
        )
        .returning(GenerationWork.id, GenerationWork.error)
    ).all()
    if failed:
        ids = [str(row.id) for row in failed]
        session.execute(_LET_GO, {"document_id": document_id, "ids": ids})
    return [row.error or "no reason" for row in failed]
