"""How a question's row ends, or waits again; whatever ends it lets the next one take its turn."""

import re
import time
from dataclasses import dataclass, field
from typing import Any

from shared.errors import ConfigurationError, Permanent, ServiceAway, SubjectGone
from shared.models import MessageStatus
from shared.submitting.answer_turns import announce_next, lock_conversation_of
from shared.submitting.files import storable
from worker.delivery.lease import Ago, release
from worker.delivery.leased_run import attempts_after
from worker.providers.chat import Usage
from worker.services.generation.answer_claiming import ClaimedQuestion
from worker.services.generation.answer_needs import AnswerNeeds, Stream

_CITED = re.compile(r"\[(\d{1,3}(?:\W{1,3}\d{1,3})*)\]")


@dataclass(slots=True)
class Draft:
    """An answer as far as it is.

    Attributes:
        size_bytes: of its text.
        begun: when its first word came, on the monotonic clock.
    """

    texts: list[str] = field(default_factory=list)
    size_bytes: int = 0
    sources: list[dict[str, Any]] = field(default_factory=list)
    model: str | None = None
    is_extractive: bool = False
    cut_by: str | None = None
    usage: Usage | None = None
    begun: float | None = None

    @property
    def text(self) -> str:
        """The answer."""
        return "".join(self.texts)

    def columns(self) -> dict[str, Any]:
        """What the row gets of it."""
        begun_ago = None if self.begun is None else Ago(time.monotonic() - self.begun)
        answer = self.text
        return {
            "answer": answer or None,
            "sources": with_citations(self.sources, answer),
            "model": self.model and storable(self.model)[:255],
            "is_extractive": self.is_extractive,
            "cut_by": self.cut_by,
            "input_tokens": self.usage and self.usage.input_tokens,
            "output_tokens": self.usage and self.usage.output_tokens,
            "first_token_at": begun_ago,
            "ended_at": Ago(),
        }


class AnswerEnds:
    """The ends of one attempt; each is a transaction of its own.

    Args:
        asked: the question.
        needs: sessions, and what publishes.
        draft: what there is of the answer.
        stream: told after the commit.
    """

    def __init__(
        self, asked: ClaimedQuestion, needs: AnswerNeeds, draft: Draft, stream: Stream
    ) -> None:
        self._asked = asked
        self._needs = needs
        self._draft = draft
        self._stream = stream

    def end(self, status: MessageStatus, error: str | None = None) -> None:
        """Write the answer, and announce the conversation's next question.

        Raises:
            LeaseLost: (superseded) another worker answers it.
            SubjectGone: (superseded) the conversation was deleted.
        """
        asked, needs = self._asked, self._needs
        with needs.sessions.begin() as session:
            conversation_id = lock_conversation_of(session, asked.message_id)
            if conversation_id is None:
                raise SubjectGone(f"conversation {asked.conversation_id} was deleted")
            release(
                session,
                asked.lease,
                status=status,
                error=error,
                restarts=asked.restarts + asked.lease.deaths,
                **self._draft.columns(),
            )
            announce_next(session, conversation_id, celery=needs.celery)
            if status is MessageStatus.COMPLETED:
                needs.follow(session, conversation_id)
        self._stream.end()

    def hand_back(self, error: Exception) -> None:
        """Let it wait for its next delivery."""
        lease = self._asked.lease
        reason = storable(str(error))
        with self._needs.sessions.begin() as session:
            release(
                session,
                lease,
                status=MessageStatus.WAITING,
                error=f"attempt {lease.attempt}: {reason}",
                # Somebody looks on: an answer does not wait for a provider for hours.
                attempts=(
                    lease.attempt
                    if isinstance(error, ServiceAway)
                    else attempts_after(lease, error)
                ),
                restarts=self._asked.restarts + bool(self._draft.texts),
            )
        self._stream.wait(reason)

    def fail(self, error: Permanent | ConfigurationError) -> None:
        """End it without an answer; what was shown of one stays."""
        self.end(MessageStatus.ERROR, storable(str(error)))


def with_citations(sources: list[dict[str, Any]], answer: str) -> list[dict[str, Any]]:
    """The sources, each with whether the answer cites it."""
    cited = {
        int(number) for found in _CITED.findall(answer) for number in re.findall(r"\d+", found)
    }
    return [{**one, "is_cited": one["number"] in cited} for one in sources]
