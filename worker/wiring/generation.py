"""What background generation needs."""

from functools import partial
from uuid import UUID

from flask import current_app

from shared.settings import Settings
from shared.submitting.generation import announce_works
from worker.services.generation.needs import GenerationNeeds
from worker.services.generation.qa_pairs import QueuedQuestionWriter
from worker.services.generation.token_ledger import purge_token_uses
from worker.services.generation.work_sweeping import sweep_works
from worker.wiring.chat import chat_model, is_configured, sentence_embedder
from worker.wiring.foundations import heartbeat, sessions


def generation_needs() -> GenerationNeeds:
    """A work's needs in the current application."""
    settings: Settings = current_app.extensions["settings"]
    generation = settings.generation
    return GenerationNeeds(
        sessions=sessions(),
        models=chat_model,
        embedder=sentence_embedder,
        celery=current_app.extensions["celery"],
        heartbeat=heartbeat(),
        lease_seconds=settings.delivery.delivery_lease_seconds,
        max_attempts=generation.generation_max_attempts,
        max_deaths=settings.delivery.delivery_max_deaths,
        output_tokens=generation.generation_output_tokens,
        max_characters=generation.generation_summary_max_characters,
        max_pairs=generation.generation_pairs_per_passage,
        temperature=generation.generation_temperature,
    )


def question_writer(tenant_id: UUID, document_id: UUID) -> QueuedQuestionWriter | None:
    """Who writes questions for a document; ``None`` where no model is configured."""
    if not is_configured(tenant_id):
        return None
    celery = current_app.extensions["celery"]
    return QueuedQuestionWriter(sessions(), celery, tenant_id, document_id)


def sweep_generation(grace_seconds: float) -> None:
    """Announce works again that nobody will come back to."""
    announce = partial(announce_works, celery=current_app.extensions["celery"])
    sweep_works(sessions(), announce, grace_seconds)
    settings: Settings = current_app.extensions["settings"]
    purge_token_uses(sessions(), settings.generation.generation_usage_days)
