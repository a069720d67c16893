"""Answers of a chat server, read with distrust: the SDK's types are no promise of the server's."""

from collections.abc import Iterable
from typing import Any

from shared.errors import AnswerUnusable, ModelRefused, ServiceUnavailable
from worker.providers.chat import ChatChunk, ChatMessage, Completion, FinishReason, Spending, Usage
from worker.providers.token_estimate import estimate_tokens

#: What roles and separators of a message cost.
_MESSAGE_TOKENS = 4
_WORDS_CHARACTERS = 300
_REFUSED = "content_filter"


def estimated(messages: Iterable[ChatMessage]) -> int:
    """About how many tokens a prompt is."""
    return sum(estimate_tokens(one.content) + _MESSAGE_TOKENS for one in messages)


def read_completion(answer: Any, prompt_tokens: int, spending: Spending) -> Completion:
    """A whole answer; what it cost is recorded whatever it says.

    Raises:
        AnswerUnusable: (transient) it is no answer.
        ModelRefused: (permanent) the model does not want to.
    """
    choice = _choice(answer)
    message = getattr(choice, "message", None)
    if message is None:
        raise AnswerUnusable("the chat provider answered nothing that can be read")
    text = _text(message, "content")
    written = estimate_tokens(text)
    spending.usage = _usage(answer) or Usage(prompt_tokens, written, is_estimated=True)
    if refusal := _text(message, "refusal"):
        raise _refused(refusal)
    reason = _text(choice, "finish_reason")
    if reason == _REFUSED:
        raise _refused("its content filter stopped the answer")
    if not text:
        raise AnswerUnusable(f"the model wrote nothing (it ended by {reason or 'no reason'})")
    return Completion(text, spending.usage, _finish_reason(reason))


class StreamedAnswer:
    """An answer that comes in pieces.

    Args:
        prompt_tokens: about how many the prompt is.
        max_bytes: where the answer is cut.
        spending: kept up to date with each piece: the stream may be left at any.
    """

    def __init__(self, prompt_tokens: int, max_bytes: int, spending: Spending) -> None:
        # Before the first word the prompt is paid for already.
        spending.usage = Usage(prompt_tokens, 0, is_estimated=True)
        self._spending = spending
        self._left = max_bytes
        self._reason = ""
        self._refusal = ""
        self.is_full = False

    def take(self, piece: Any) -> str:
        """What to give on of the next piece.

        Raises:
            AnswerUnusable: (transient) it is no piece of an answer.
        """
        told = _usage(piece)
        choice = _choice(piece)
        delta = getattr(choice, "delta", None)
        if choice is None and told is None and not hasattr(piece, "choices"):
            raise AnswerUnusable("the chat provider streamed something that is no answer")
        text = _text(delta, "content")
        self._refusal = (self._refusal + _text(delta, "refusal"))[:_WORDS_CHARACTERS]
        self._reason = _text(choice, "finish_reason") or self._reason
        spent = self._spending.usage
        if told is not None:
            self._spending.usage = told
        elif text and spent.is_estimated:
            written = spent.output_tokens + estimate_tokens(text)
            self._spending.usage = Usage(spent.input_tokens, written, is_estimated=True)
        return self._kept(text)

    def end(self) -> ChatChunk:
        """The last chunk.

        Raises:
            ModelRefused: (permanent) the model does not want to.
            ServiceUnavailable: (transient) the answer broke off.
        """
        if self._refusal or self._reason == _REFUSED:
            raise _refused(self._refusal or "its content filter stopped the answer")
        if not self._reason and not self.is_full:
            raise ServiceUnavailable("the chat provider broke off in the middle of its answer")
        reason = "length" if self.is_full else _finish_reason(self._reason)
        return ChatChunk("", reason, self._spending.usage)

    def _kept(self, text: str) -> str:
        whole = text.encode("utf-8", "replace")
        if len(whole) <= self._left:
            self._left -= len(whole)
            return text
        self.is_full = True
        return whole[: self._left].decode("utf-8", "ignore")


def unfenced(text: str) -> str:
    """The JSON in an answer, without the fence of Markdown around it that models like to add."""
    bare = text.strip()
    if bare.startswith("```"):
        bare = bare.partition("\n")[2].rpartition("```")[0].strip()
    return bare


def _refused(words: str) -> ModelRefused:
    return ModelRefused(f"the model refuses: {' '.join(words.split())[:_WORDS_CHARACTERS]}")


def _finish_reason(reason: str) -> FinishReason:
    return "length" if reason == "length" else "stop"


def _choice(answer: Any) -> Any:
    choices = getattr(answer, "choices", None)
    return choices[0] if isinstance(choices, list) and choices else None


def _text(part: Any, name: str) -> str:
    found = getattr(part, name, None)
    return found if isinstance(found, str) else ""


def _usage(answer: Any) -> Usage | None:
    told = getattr(answer, "usage", None)
    counts = [getattr(told, name, None) for name in ("prompt_tokens", "completion_tokens")]
    sent, written = (one if isinstance(one, int) and one >= 0 else None for one in counts)
    return None if sent is None or written is None else Usage(sent, written)
