"""The generation queue's tasks in the background; import them from ``worker.tasks.generation``."""

from collections.abc import Mapping, Sequence
from typing import Any

from celery import shared_task
from sqlalchemy.orm import Session

from shared.contract import (
    GENERATE_CONVERSATION_SUMMARY,
    GENERATE_PAIRS,
    GENERATE_SUMMARY,
    GENERATE_TITLE,
)
from shared.errors import InvalidRequest, RagWorkerError
from shared.models.generation import GenerationKind
from shared.queueing.task import FlaskTask
from shared.submitting.ids import checked_id


class GenerationTask(FlaskTask):
    """A task about one work: what becomes of its message shows in the work's row."""

    abstract = True
    subject = "work"
    kind: GenerationKind

    def abandon(
        self, reason: RagWorkerError, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        """End the work as ``error``, with the reason."""
        from worker.services.generation.working import give_up_work
        from worker.wiring import generation_needs

        for subject_id in _subject(args, kwargs):
            give_up_work(self.kind, subject_id, generation_needs(), str(reason))

    def revive(self, session: Session, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Let the work wait again."""
        from worker.services.generation.working import revive_work

        for subject_id in _subject(args, kwargs):
            revive_work(session, self.kind, subject_id)


class SummaryTask(GenerationTask):
    """A document's summary."""

    abstract = True
    kind = GenerationKind.DOCUMENT_SUMMARY


class PairsTask(GenerationTask):
    """Questions of passages."""

    abstract = True
    kind = GenerationKind.QA_PAIRS


class TitleTask(GenerationTask):
    """A conversation's title."""

    abstract = True
    kind = GenerationKind.CONVERSATION_TITLE


class ConversationSummaryTask(GenerationTask):
    """A conversation's summary."""

    abstract = True
    kind = GenerationKind.CONVERSATION_SUMMARY


@shared_task(name=GENERATE_SUMMARY.name, base=SummaryTask)
def generate_document_summary_task(document_id: str) -> None:
    """Summarize a document, and let search see the summary."""
    from worker.services.generation.document_summary import summarize_document
    from worker.wiring import generation_needs

    summarize_document(checked_id("document_id", document_id), generation_needs())


@shared_task(name=GENERATE_PAIRS.name, base=PairsTask)
def generate_qa_pairs_task(work_id: str) -> None:
    """Write the questions that some passages of a document answer."""
    from worker.services.generation.qa_pairs import write_pairs
    from worker.wiring import generation_needs

    write_pairs(checked_id("work_id", work_id), generation_needs())


@shared_task(name=GENERATE_TITLE.name, base=TitleTask)
def generate_conversation_title_task(conversation_id: str) -> None:
    """Give a conversation a title."""
    from worker.services.generation.conversations import name_conversation
    from worker.wiring import generation_needs

    name_conversation(checked_id("conversation_id", conversation_id), generation_needs())


@shared_task(name=GENERATE_CONVERSATION_SUMMARY.name, base=ConversationSummaryTask)
def generate_conversation_summary_task(conversation_id: str) -> None:
    """Bring a conversation's summary up to its last answer."""
    from worker.services.generation.conversations import summarize_conversation
    from worker.wiring import generation_needs

    summarize_conversation(checked_id("conversation_id", conversation_id), generation_needs())


def _subject(args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    """The id that a message as it was sent begins with; none when it is no id."""
    try:
        return [checked_id("id", one) for one in [*args, *kwargs.values()][:1]]
    except InvalidRequest:
        return []
