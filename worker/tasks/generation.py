"""The generation queue's tasks."""

from collections.abc import Mapping, Sequence
from typing import Any

from celery import shared_task
from sqlalchemy.orm import Session

from shared.contract import GENERATE_ANSWER
from shared.errors import RagWorkerError
from shared.queueing.task import FlaskTask
from shared.submitting.ids import checked_id, first_id
from worker.tasks.generation_works import (
    generate_conversation_summary_task,
    generate_conversation_title_task,
    generate_document_summary_task,
    generate_qa_pairs_task,
)

__all__ = [
    "AnswerTask",
    "generate_answer_task",
    "generate_conversation_summary_task",
    "generate_conversation_title_task",
    "generate_document_summary_task",
    "generate_qa_pairs_task",
]


class AnswerTask(FlaskTask):
    """A task about one question: what becomes of its message shows in the question's row."""

    abstract = True
    subject = "question"

    @property
    def deadline_seconds(self) -> float:  # type: ignore[override]
        """Somebody waits for it."""
        seconds: float = self.flask_app.extensions["settings"].answers.answer_deadline_seconds
        return seconds

    def abandon(
        self, reason: RagWorkerError, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        """End the question as ``error``, with the reason."""
        from worker.services.generation.answer_sweeping import give_up_answer
        from worker.wiring import answer_needs

        if message_id := first_id("message_id", args, kwargs):
            give_up_answer(message_id, answer_needs(), str(reason))

    def revive(self, session: Session, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Let the question wait again."""
        from shared.submitting.answers import revive_answer

        if message_id := first_id("message_id", args, kwargs):
            revive_answer(session, message_id)


@shared_task(name=GENERATE_ANSWER.name, base=AnswerTask)
def generate_answer_task(message_id: str) -> None:
    """Answer a question from the documents of its datasets."""
    from worker.services.generation.answer import generate_answer
    from worker.wiring import answer_needs

    generate_answer(checked_id("message_id", message_id), answer_needs())
