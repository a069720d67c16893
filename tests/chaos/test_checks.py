"""The checks find what they are for: each is shown a database with that one thing wrong."""

from uuid import UUID, uuid4

import pytest
from sqlalchemy import delete, text
from sqlalchemy.orm import Session

from shared.models import Document, OutboxMessage
from tests.chaos.checks import PRODUCT_CHECKS, Violation, load_expectations, run_checks
from tests.chaos.documents import DocumentSpec
from tests.fixtures.application import Submit
from worker.services.dataset.indexing import index_document
from worker.wiring import indexing_needs

GOOD = DocumentSpec("good.txt", "txt", 3, 1)
EMPTY = DocumentSpec("empty.txt", "empty", 1, 1)
GONE = uuid4()

#: What is done to the database, and the check that must notice.
DAMAGES = {
    "DELETE FROM documents WHERE source_key = 'good.txt'": "no such document",
    "UPDATE documents SET indexing_status = 'waiting'": "neither completed nor error",
    "UPDATE documents SET indexing_status = 'error', error = 'x'": "ended as error",
    "UPDATE documents SET error = NULL": "does not say so",
    "DELETE FROM document_segments WHERE position = 1": "segments are missing",
    "UPDATE document_segments SET index_node_hash = 'x' WHERE position = 1": "nobody expected",
    """
    INSERT INTO document_segments (id, tenant_id, dataset_id, document_id, version, position,
                                   content, word_count, tokens, index_node_hash)
    SELECT gen_random_uuid(), tenant_id, dataset_id, document_id, version, 7, '', 0, 0, ''
    FROM document_segments LIMIT 1
    """: "nobody expected",
    "DELETE FROM segment_vectors WHERE id IN (SELECT id FROM segment_vectors LIMIT 1)": (
        "without a vector"
    ),
    "UPDATE segment_vectors SET id = gen_random_uuid()": "without a segment",
    "DELETE FROM segment_keywords": "not those of their segments",
    "UPDATE segment_keywords SET segment_id = gen_random_uuid()": "words without a segment",
    "UPDATE documents SET total_segments = 99": "counters differ",
    "UPDATE documents SET index_version = 2": "counters differ",
    "UPDATE documents SET lease_expires_at = now()": "a lease is held",
    "INSERT INTO outbox (id, tenant_id, task, queue, args, kwargs)"
    f" VALUES (gen_random_uuid(), gen_random_uuid(), 't', 'dataset', '[\"{GONE}\"]', '{{}}')": (
        "left in the outbox"
    ),
    "INSERT INTO dead_letters"
    " (id, message_id, tenant_id, task, queue, args, kwargs, exception, reason)"
    " VALUES (gen_random_uuid(), gen_random_uuid(), gen_random_uuid(),"
    " 't', 'dataset', '[]', '{}', 'E', 'r')": "a dead letter",
}


@pytest.fixture
def healthy(session: Session, dataset_id: UUID, submit: Submit) -> Session:
    """A database with one document that was indexed, and one that could not be."""
    for spec in (GOOD, EMPTY):
        (submission,) = submit({spec.key: spec.content()})
        try:
            index_document(submission.document_id, dataset_id, indexing_needs())
        except Exception:
            assert not spec.is_good
    session.execute(delete(OutboxMessage))
    session.commit()
    return session


def found(session: Session, deleted: dict[str, str]) -> list[Violation]:
    load_expectations(session.connection(), {GOOD.key: GOOD, EMPTY.key: EMPTY}, deleted)
    return list(run_checks(session.connection(), PRODUCT_CHECKS))


def test_all_is_well_when_all_is_well(healthy: Session) -> None:
    assert found(healthy, {"gone.txt": str(GONE)}) == []


@pytest.mark.parametrize(("damage", "noticed"), DAMAGES.items(), ids=range(len(DAMAGES)))
def test_a_damage_is_noticed(healthy: Session, damage: str, noticed: str) -> None:
    healthy.execute(text(damage))
    assert [one for one in found(healthy, {}) if noticed in one.message]


def test_a_deleted_document_must_be_gone_from_every_table(healthy: Session) -> None:
    (row,) = healthy.query(Document.id).filter_by(source_key=GOOD.key)
    messages = [one.message for one in found(healthy, {GOOD.key: str(row.id)})]
    for table in ("documents", "document_segments", "segment_vectors"):
        assert f"deleted, and not gone from every table: {table}" in messages
