"""A question is answered: claimed, searched, put to the model, streamed, stored with its sources.

What readers see while it is made is a courtesy; the row is the answer. A worker that dies
leaves a row whose lease runs out, and the next one begins again, which readers are told.
"""

import logging
import time
from collections.abc import Sequence
from functools import partial
from uuid import UUID

from shared.errors import AnswerCancelled, PromptTooLong
from shared.models import MessageStatus
from shared.submitting.files import storable
from worker.delivery import runs
from worker.delivery.leased_run import require_attempts_left, run_leased
from worker.providers.chat import ChatChunk, ChatModel
from worker.providers.token_estimate import estimate_tokens
from worker.services.generation.answer_claiming import ClaimedQuestion, claim_question
from worker.services.generation.answer_ending import AnswerEnds, Draft
from worker.services.generation.answer_needs import AnswerNeeds, Passage
from worker.services.generation.answer_passages import as_sources, fitted, passages_for
from worker.services.generation.answer_prompt import prompt

logger = logging.getLogger(__name__)

#: What stands where an answer was cut.
CUT_MARK = " […]"
EXTRACTIVE = "extractive"
#: What a prompt takes besides what is quoted and asked.
_RULES_TOKENS = 512
#: Of passages, however little the model takes.
_LEAST_TOKENS = 256


def generate_answer(message_id: UUID, needs: AnswerNeeds) -> MessageStatus | None:
    """Answer a question.

    Delivered twice it does nothing the second time. Late is no different.

    Returns:
        How it ended; ``None`` when there was nothing to do.

    Raises:
        SubjectGone: (superseded) the row was deleted.
        LeaseLost: (superseded) another worker took it over.
        LeaseHeld: (superseded) another worker has it now.
        Transient: it waits for its next delivery; the row says why.
        Permanent: written to the row's ``error``.
    """
    with needs.sessions.begin() as session:
        asked = claim_question(session, message_id, needs.lease_seconds)
    if asked is None:
        return None
    attempt = _Attempt(asked, needs)
    return run_leased(attempt.run, asked.lease, attempt.ends, heartbeat=needs.heartbeat)


class _Attempt:
    def __init__(self, asked: ClaimedQuestion, needs: AnswerNeeds) -> None:
        self._asked = asked
        self._needs = needs
        self._draft = Draft()
        self._stream = needs.streams.open(asked.message_id, asked.lease.token, asked.lease.attempt)
        self.ends = AnswerEnds(asked, needs, self._draft, self._stream)

    def run(self) -> MessageStatus:
        """Answer it."""
        runs.checkpoint()
        self._stream.start()
        asked, limits = self._asked, self._needs.limits
        if asked.is_cancelled:
            return self._end(MessageStatus.CANCELLED)
        require_attempts_left(
            asked.lease,
            "this question",
            max_attempts=limits.attempts,
            max_deaths=limits.deaths,
            last_error=asked.last_error,
        )
        passages = passages_for(asked, self._needs)
        runs.checkpoint()
        try:
            self._needs.cancels.run(asked.message_id, partial(self._write, passages))
        except AnswerCancelled:
            return self._end(MessageStatus.CANCELLED)
        return self._end(MessageStatus.COMPLETED)

    def _write(self, passages: Sequence[Passage]) -> None:
        model = self._needs.model(self._asked.tenant_id, self._asked.message_id)
        if model is None:
            self._extract(passages)
            return
        self._draft.model = model.name
        tokens = self._passage_tokens(model)
        try:
            self._ask(model, fitted(passages, tokens))
        except PromptTooLong:
            if self._draft.texts or not passages:
                raise
            # What we take for a token may be two of the model's.
            self._ask(model, fitted(passages, tokens // 2))

    def _passage_tokens(self, model: ChatModel) -> int:
        limits = self._needs.limits
        asked = estimate_tokens(self._asked.question) + _RULES_TOKENS
        others = limits.output_tokens + limits.history_tokens + asked
        return min(limits.passage_tokens, max(model.context_tokens - others, _LEAST_TOKENS))

    def _ask(self, model: ChatModel, passages: Sequence[Passage]) -> None:
        needs = self._needs
        self._show(passages)
        messages = prompt(self._asked, passages, needs.limits.history_tokens, needs.instructions)
        with model.stream(
            messages,
            max_output_tokens=needs.limits.output_tokens,
            temperature=needs.temperature,
        ) as chunks:
            for chunk in chunks:
                runs.checkpoint()
                self._take(chunk)
                if self._draft.cut_by:
                    return

    def _take(self, chunk: ChatChunk) -> None:
        if chunk.text:
            self._add(chunk.text)
        self._draft.usage = chunk.usage or self._draft.usage
        if chunk.finish_reason == "length" and not self._draft.cut_by:
            self._cut("tokens")

    def _extract(self, passages: Sequence[Passage]) -> None:
        """Without a model: the sentences of the passages that come nearest to an answer."""
        draft = self._draft
        draft.model, draft.is_extractive = EXTRACTIVE, True
        chosen = fitted(passages, self._needs.limits.passage_tokens)
        self._show(chosen)
        found = self._needs.extract(self._asked.question, [one.content for one in chosen])
        for place, one in enumerate(found):
            if draft.cut_by:
                return
            self._add(f"{' ' if place else ''}{one.text} [{one.number}]")

    def _show(self, passages: Sequence[Passage]) -> None:
        self._draft.sources = as_sources(passages)
        self._stream.show_sources(self._draft.sources)

    def _add(self, text: str) -> None:
        draft = self._draft
        if draft.begun is None:
            draft.begun = time.monotonic()
        kept = storable(text)
        room = self._needs.limits.output_bytes - draft.size_bytes
        is_cut = len(kept.encode()) > room
        if is_cut:
            kept = kept.encode()[:room].decode("utf-8", "ignore")
        draft.size_bytes += len(kept.encode())
        self._put(kept)
        if is_cut:
            self._cut("bytes")

    def _cut(self, by: str) -> None:
        self._draft.cut_by = by
        self._put(CUT_MARK)

    def _put(self, text: str) -> None:
        # In this order: what readers lack they get with the end.
        self._draft.texts.append(text)
        self._stream.write(text)

    def _end(self, status: MessageStatus) -> MessageStatus:
        self.ends.end(status)
        logger.info(
            "message %s %s",
            self._asked.message_id,
            status,
            extra={
                "action": f"answer.{status}",
                "message_id": str(self._asked.message_id),
                "tenant_id": str(self._asked.tenant_id),
            },
        )
        return status
