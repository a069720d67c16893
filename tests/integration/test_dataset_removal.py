"""A dataset goes in short transactions, and nobody waits for it."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import delete, event, text
from sqlalchemy.orm import Session

from shared.errors import NotFound
from shared.models import (
    Dataset,
    db,
)
from tests.fixtures.application import Submit
from tests.fixtures.removals import Make, clean_messages, counts, notes
from worker.services.dataset.removal import (
    clean_dataset,
)
from worker.services.dataset.retrieval import search
from worker.stores.pgvector import PgVectorStore
from worker.stores.vector_stores import VectorStores
from worker.tasks import dataset as tasks
from worker.wiring import removal_needs, retrieval_needs, sweep

SEGMENTS = 100_000


@pytest.fixture
def large(session: Session, dataset_id: UUID, make: Make) -> UUID:
    """A dataset with a document of very many segments."""
    document = make()
    values = {"id": document, "number": SEGMENTS}
    session.execute(
        text("""
            INSERT INTO document_segments (id, tenant_id, dataset_id, document_id, version,
                              position, content, word_count, tokens, index_node_hash)
            SELECT gen_random_uuid(), d.tenant_id, d.dataset_id, d.id, 1, 100 + n,
                   'segment ' || n, 2, 2, 'hash'
            FROM documents AS d, generate_series(1, :number) AS n WHERE d.id = :id
        """),
        values,
    )
    session.execute(
        text("""
            INSERT INTO segment_vectors (id, dataset_id, document_id, version, embedding)
            SELECT id, dataset_id, document_id, version, '[1,0]'::vector
            FROM document_segments WHERE position > 100
        """)
    )
    session.commit()
    return document


def test_one_of_very_many_segments_goes_in_short_transactions_and_holds_up_nobody(
    session: Session, dataset_id: UUID, large: UUID, submit: Submit
) -> None:
    written: list[int] = []
    in_transaction = 0

    def count(_connection: object, cursor: Any, statement: str, *_: object) -> None:
        nonlocal in_transaction
        if statement.lstrip().startswith(("DELETE", "UPDATE")):
            in_transaction += cursor.rowcount

    def committed(*_: object) -> None:
        nonlocal in_transaction
        written.append(in_transaction)
        in_transaction = 0

    class Watched(PgVectorStore):
        """Between two batches somebody writes to another dataset, without waiting."""

        inserted = 0

        def delete_other_generations(self, *arguments: Any) -> int:
            deleted = super().delete_other_generations(*arguments)
            with Session(db.engine) as other, other.begin():
                other.execute(text("SET LOCAL lock_timeout = '100ms'"))
                other.execute(
                    text(
                        "INSERT INTO datasets (id, tenant_id, name, embedding_provider,"
                        " embedding_model, retrieval_model)"
                        " SELECT gen_random_uuid(), id, 'other ' || :number, 'w', 'm', '{}'"
                        " FROM tenants"
                    ),
                    {"number": self.inserted},
                )
            self.inserted += 1
            return deleted

    store = Watched()
    event.listen(db.engine, "after_cursor_execute", count)
    event.listen(db.engine, "commit", committed)
    try:
        clean_dataset(dataset_id, replace(removal_needs(), vectors=VectorStores(store)))
    finally:
        event.remove(db.engine, "after_cursor_execute", count)
        event.remove(db.engine, "commit", committed)

    assert counts(large) == (0, 0, 0)
    assert session.get(Dataset, dataset_id) is None
    assert notes() == ["stored_file"]
    assert store.inserted > 40
    assert max(written) == removal_needs().batch_rows
    with pytest.raises(NotFound):
        search(dataset_id, "anything", retrieval_needs())


def test_its_deletion_by_anybody_is_noted_and_done(
    session: Session, dataset_id: UUID, make: Make
) -> None:
    documents = [make(), make("horn.txt", b"The fog horn sounds.")]
    session.execute(delete(Dataset).where(Dataset.id == dataset_id))
    session.commit()
    assert notes() == ["dataset", "document", "document"]
    sweep()
    assert [one.task.rpartition(".")[2] for one in clean_messages()] == [
        "batch_clean_document_task",
        "clean_dataset_task",
    ]

    for _ in range(2):
        tasks.clean_dataset_task(str(dataset_id))
        for one in documents:
            assert counts(one) == (0, 0, 0)
        assert notes() == ["stored_file", "stored_file"]
