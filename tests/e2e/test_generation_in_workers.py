"""Real workers and a server that chats: a whole document's way, a 429, a worker that is killed."""

import json
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shared.models import DocumentSegment, DocumentStatus, GenerationWork, TokenUse
from shared.submitting.dataset import ensure_dataset, ensure_tenant
from shared.submitting.generation import request_document_summary
from tests.fixtures.application import Reader, Submit
from tests.fixtures.chat_server import Answer, Asked, ChatServer, answer_with, refusing
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_process import StartWorker

PROSE = "\n\n".join(
    f"Harbour {number} has {number} cranes. Each crane of harbour {number} lifts salt. " * 12
    for number in range(30)
).encode()


@pytest.fixture
def environment(
    environment: dict[str, str], chat_server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    ours = {
        "GENERATION_MODEL": "lamp-1",
        "GENERATION_BASE_URL": chat_server.url,
        "GENERATION_CONTEXT_TOKENS": "2048",
        "GENERATION_OUTPUT_TOKENS": "200",
        "DELIVERY_LEASE_SECONDS": "8",
        "SWEEP_SECONDS": "1",
        "OUTBOX_REDELIVERY_SECONDS": "2",
    }
    for name, value in ours.items():
        monkeypatch.setenv(name, value)
    return environment | ours


@pytest.fixture
def dataset_id(session: Session) -> UUID:
    made = ensure_dataset(session, ensure_tenant(session, "acme"), "answers", doc_form="qa_model")
    session.commit()
    return made


def pairs_or_summary(asked: Asked) -> Answer:
    if "response_format" not in asked.body:
        return answer_with(asked, "Harbours and their cranes are counted.")
    words = asked.messages[-1]["content"].split()[4:10]
    pair = {"question": f"What of {' '.join(words)}?", "answer": "Salt is lifted there. " * 40}
    return answer_with(asked, json.dumps({"pairs": [pair]}))


def summary_of(session: Session, document_id: UUID) -> DocumentSegment | None:
    session.rollback()
    query = select(DocumentSegment).where(
        DocumentSegment.document_id == document_id, DocumentSegment.is_summary
    )
    found: DocumentSegment | None = session.scalars(query).one_or_none()
    return found


def test_prose_becomes_questions_and_a_summary_though_the_model_says_later_and_workers_die(
    app: Flask, session: Session, start_worker: StartWorker, submit: Submit, reader: Reader,
    chat_server: ChatServer,
) -> None:  # fmt: skip
    chat_server.always = pairs_or_summary
    chat_server.steps.append(refusing(429, "later", retry_after="2"))
    worker = start_worker("gevent", 20)

    (one,) = submit({"harbours.txt": PROSE}, announce=True)
    (document,) = reader.await_end(one.document_id)

    assert document.indexing_status == DocumentStatus.COMPLETED, document.error
    segments = session.scalars(select(DocumentSegment.content)).all()
    assert len(segments) > 8
    assert all(text.startswith("What of ") for text in segments)
    paid = session.scalar(select(func.count()).select_from(TokenUse))
    assert paid == len(chat_server.asked) - 1, "each call is recorded once, the 429 is none"

    # A worker dies in the middle of a summary; the next one goes on behind what was paid for.
    slow = len(chat_server.asked) + 3

    def pause_at_the_third(asked: Asked) -> Answer:
        answer = pairs_or_summary(asked)
        if len(chat_server.asked) == slow:
            answer.pause_seconds = 3600
        return answer

    chat_server.always = pause_at_the_third
    request_document_summary(session, one.document_id, celery=app.extensions["celery"])
    session.commit()
    eventually(lambda: len(chat_server.asked) >= slow, 30)
    worker.kill()
    chat_server.always = pairs_or_summary
    start_worker("gevent", 20)

    def is_there() -> bool:
        found = summary_of(session, one.document_id)
        return found is not None and found.status == "completed"

    eventually(is_there, 60)
    bodies = [asked.messages[-1]["content"].split("\n", 2)[2].rsplit("\n", 1)[0]
              for asked in chat_server.asked[slow - 3 :]]  # fmt: skip
    parts = [body for body in bodies if "What of" in body]  # and not summaries of summaries
    assert len(parts) == len(set(parts)) + 1, "only the call that died is made again"
    work = session.scalars(
        select(GenerationWork).where(GenerationWork.subject_id == one.document_id)
    ).one()
    assert (work.status, work.model, work.deaths) == ("completed", "lamp-1", 0)
    document = reader.document(one.document_id)
    assert document.total_segments == document.completed_segments == len(segments) + 1
