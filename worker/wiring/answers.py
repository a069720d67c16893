"""What answering questions needs."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from celery import Celery
from flask import current_app
from sqlalchemy.orm import Session

from shared.settings import Settings
from shared.settings.answers import AnswerSettings
from shared.settings.generation import GenerationSettings
from shared.submitting.answer_events import announce_end
from shared.submitting.generation import follow_conversation
from worker.providers.chat import ChatModel
from worker.services.dataset.found_passages import FoundPassage
from worker.services.dataset.retrieval import search
from worker.services.dataset.search_options import SearchOptions
from worker.services.generation.answer_cancelling import CancelWatch
from worker.services.generation.answer_needs import AnswerLimits, AnswerNeeds, Extract, Passage
from worker.stores.answer_stream import AnswerStreams
from worker.wiring.chat import chat_model, extract_answer
from worker.wiring.dataset import retrieval_needs
from worker.wiring.foundations import heartbeat, sessions


def answer_needs() -> AnswerNeeds:
    """An answer's needs in the current application."""
    settings: Settings = current_app.extensions["settings"]
    answers, delivery = settings.answers, settings.delivery
    return AnswerNeeds(
        sessions=sessions(),
        retrieve=_retrieve,
        model=_model,
        extract=_extract,
        follow=partial(_follow, settings.generation, current_app.extensions["celery"]),
        streams=_streams(answers),
        cancels=_cancels(answers),
        publish_end=partial(announce_end, current_app.extensions["redis"]),
        celery=current_app.extensions["celery"],
        heartbeat=heartbeat(),
        limits=_limits(answers, delivery.delivery_max_deaths),
        instructions=answers.answer_instructions,
        temperature=answers.answer_temperature,
        lease_seconds=delivery.delivery_lease_seconds,
    )


def _retrieve(dataset_id: UUID, question: str, wishes: Mapping[str, Any]) -> list[Passage]:
    found = search(dataset_id, question, retrieval_needs(), SearchOptions(**wishes))
    return [_passage(dataset_id, one) for one in found]


def _passage(dataset_id: UUID, found: FoundPassage) -> Passage:
    # Of a question that was found, what answers it belongs to it.
    content = found.content if found.answer is None else f"{found.content}\n{found.answer}"
    return Passage(
        dataset_id=dataset_id,
        document_id=found.document_id,
        document_name=found.document_name,
        segment_id=found.segment_id,
        position=found.position,
        page=found.page,
        score=found.score,
        content=content,
    )


def _model(tenant_id: UUID, message_id: UUID) -> ChatModel | None:
    return chat_model(tenant_id, "answer", message_id)


def _extract(question: str, passages: Sequence[str]) -> list[Extract]:
    return [Extract(one.text, one.number) for one in extract_answer(question, passages)]


def _follow(generation: GenerationSettings, celery: Celery, session: Session, of: UUID) -> None:
    follow_conversation(
        session,
        of,
        with_title=generation.generation_titles,
        summary_turns=generation.generation_summary_turns,
        celery=celery,
    )


def _limits(answers: AnswerSettings, deaths: int) -> AnswerLimits:
    return AnswerLimits(
        passages=answers.answer_passages,
        passage_tokens=answers.answer_passage_tokens,
        history_tokens=answers.answer_history_tokens,
        output_tokens=answers.answer_max_output_tokens,
        output_bytes=answers.answer_max_bytes,
        attempts=answers.answer_max_attempts,
        deaths=deaths,
    )


def _streams(answers: AnswerSettings) -> AnswerStreams:
    """One an application: its thread writes for all."""
    extensions = current_app.extensions
    if "answer_streams" not in extensions:
        redis = extensions["redis"]
        made = AnswerStreams(redis, answers.answer_stream_seconds, answers.answer_flush_seconds)
        extensions.setdefault("answer_streams", made)
    streams: AnswerStreams = extensions["answer_streams"]
    return streams


def _cancels(answers: AnswerSettings) -> CancelWatch:
    """One an application, likewise."""
    extensions = current_app.extensions
    if "answer_cancels" not in extensions:
        extensions.setdefault(
            "answer_cancels", CancelWatch(sessions(), answers.answer_cancel_seconds)
        )
    cancels: CancelWatch = extensions["answer_cancels"]
    return cancels
