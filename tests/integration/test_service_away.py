"""While a service is away its work waits: no attempt counts, and only time ends it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import update
from sqlalchemy.orm import Session

from shared.errors import ServiceAway
from shared.models import DocumentStatus, OutboxMessage, db
from shared.queueing import outbox
from shared.queueing.task import AWAY_CAP_SECONDS, away_seconds
from tests.fixtures.application import Reader, Submit
from tests.fixtures.embedding_server import KEY, EmbeddingServer, refusing, remote_dataset, well
from tests.fixtures.messages import Messages
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker
from worker.cli.overview import dataset_overview
from worker.services.dataset.indexing import index_document
from worker.wiring import indexing_needs

MORE_THAN_MAY_COUNT = 12


@pytest.fixture
def environment(
    environment: dict[str, str], embedding_server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    ours = {
        "EMBEDDING_PROVIDER": "openai_compatible",
        "EMBEDDING_MODEL": "bag-of-words",
        "EMBEDDING_BASE_URL": embedding_server.url,
        "EMBEDDING_API_KEY": KEY,
    }
    for name, value in ours.items():
        monkeypatch.setenv(name, value)
    return environment | ours


@pytest.fixture
def dataset_id(session: Session) -> UUID:
    return remote_dataset(session)


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_document_outlasts_its_provider_and_says_what_it_waits_for(
    session: Session,
    submit: Submit,
    dataset_id: UUID,
    embedding_server: EmbeddingServer,
    reader: Reader,
    status: int,
) -> None:
    (submission,) = submit({"book.txt": b"The lighthouse turns its lamp. " * 50})
    embedding_server.always = refusing(status, "no server behind me")

    for _ in range(MORE_THAN_MAY_COUNT):
        with pytest.raises(ServiceAway):
            index_document(submission.document_id, dataset_id, indexing_needs())

    waiting = reader.document(submission.document_id)
    assert (waiting.indexing_status, waiting.attempts) == (DocumentStatus.WAITING, 0)
    reason = f"waits for a service: the embedding provider answers {status}: no server behind me"
    assert waiting.error == reason
    session.rollback()
    assert dataset_overview(session, dataset_id)["held_up"] == {reason: 1}

    embedding_server.always = well
    index_document(submission.document_id, dataset_id, indexing_needs())

    finished = reader.document(submission.document_id)
    assert (finished.indexing_status, finished.error) == (DocumentStatus.COMPLETED, None)


def test_a_server_that_is_not_there_is_away_too(
    submit: Submit, dataset_id: UUID, embedding_server: EmbeddingServer, reader: Reader
) -> None:
    (submission,) = submit({"book.txt": b"The lighthouse turns its lamp. " * 50})
    embedding_server.close()

    with pytest.raises(ServiceAway, match="cannot be reached"):
        index_document(submission.document_id, dataset_id, indexing_needs())

    assert reader.document(submission.document_id).attempts == 0


def test_its_message_is_never_given_up_for_its_attempts_but_for_its_age(
    app: Flask, messages: Messages, start_worker: StartWorker, tmp_path: Path
) -> None:
    worker = start_worker(
        *("threads", 2, "-I", "tests.fixtures.probe_tasks"),
        DELIVERY_MAX_ATTEMPTS="3",
        DELIVERY_RETRY_BUDGET_SECONDS="3600",
    )
    fresh = messages.write("probe.away", "fresh")

    eventually(lambda: messages.runs("fresh") > MORE_THAN_MAY_COUNT)

    row = messages.row(fresh)
    assert row is not None
    assert row.attempts <= 1, "one may be under way"
    assert messages.letters() == []
    assert "waits for a service: its provider is down" in worker.output()

    with Session(db.engine) as session, session.begin():
        old = outbox.write(session, "probe.away", ["old"], celery=messages.celery)
        session.flush()
        long_ago = datetime.now(UTC) - timedelta(seconds=3700)
        session.execute(
            update(OutboxMessage).where(OutboxMessage.id == old).values(created_at=long_ago)
        )
    letter = messages.await_letter(old)
    assert "its provider is down" in letter.reason
    assert messages.runs("old") == 1


def test_it_is_tried_often_at_first_and_never_seldom() -> None:
    for age_seconds in (0.0, 1.0, 10.0, 1e6):
        drawn = [away_seconds(age_seconds) for _ in range(500)]
        ceiling = min(max(age_seconds, 2.0), AWAY_CAP_SECONDS)
        assert all(ceiling / 2 <= seconds <= ceiling for seconds in drawn)
        assert max(drawn) - min(drawn) > ceiling / 4, "spread, so that they do not come at once"
